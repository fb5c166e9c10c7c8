# Declarations of the C++ core, a file per room; each header states its contract.
