// error.cpp: turns the exception in flight into plain data that a binding can raise again in its
// own language.
#include "error.hpp"

#include <new>

namespace tieralloc {

ErrorReport describe_current_error() noexcept {
  try {
    throw;
  } catch (const SystemFailure& error) {
    return {ErrorKind::system, error.code, error.what(), error.path};
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
