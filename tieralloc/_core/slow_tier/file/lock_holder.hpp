// lock_holder.hpp: the processes that have a file locked.
#pragma once

#include <string>

namespace tieralloc {

/// Says which processes have flocked the file of a descriptor, by number and command name, and how:
/// "process 71 (python3) writes it". Processes of other PID namespaces are unknown, and some file
/// systems report another device number; then says that none is known.
std::string describe_lock_holders(int fd);

}  // namespace tieralloc
