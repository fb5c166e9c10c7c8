// file_identity.hpp: whether a path still has the file that was opened: device and inode.
#pragma once

#include <string>

namespace tieralloc {

/// Whether two descriptors, or a descriptor and a path, are of one file.
bool is_same_file(int fd, int other);
bool is_same_file(int fd, const std::string& path);

/// Throws SystemFailure if the path does not have the file of `fd` any more: ENOENT if the file was
/// deleted or moved, ESTALE if another file has the path. Passes if the path cannot be examined.
void check_named(int fd, const std::string& path);

}  // namespace tieralloc
