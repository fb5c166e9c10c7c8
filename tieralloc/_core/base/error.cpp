// error.cpp: maps C++ exceptions to error reports.
#include "base/error.hpp"

#include <cstring>
#include <new>
#include <system_error>

namespace tieralloc {

ErrorReport describe_current_error() noexcept {
  try {
    throw;
  } catch (const SystemFailure& error) {
    return {ErrorKind::system, error.code, error.what(), error.path};
  } catch (const std::system_error& error) {  // of std::thread, the only source in the core
    return {ErrorKind::system,
            error.code().value(),
            std::string("cannot start a thread: ") + std::strerror(error.code().value()),
            {}};
  } catch (const MemoryShortage& error) {
    return {ErrorKind::memory, 0, error.what(), {}};
  } catch (const std::bad_alloc&) {
    return {ErrorKind::memory, 0, "out of memory", {}};
  } catch (const std::out_of_range& error) {
    return {ErrorKind::index, 0, error.what(), {}};
  } catch (const std::invalid_argument& error) {
    return {ErrorKind::value, 0, error.what(), {}};
  } catch (const std::exception& error) {
    return {ErrorKind::other, 0, error.what(), {}};
  } catch (...) {
    return {ErrorKind::other, 0, "unknown C++ exception", {}};
  }
}

}  // namespace tieralloc
