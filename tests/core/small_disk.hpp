// small_disk.hpp: a file system of few bytes; the process must be allowed to mount.
#pragma once

#include <functional>
#include <string>

/// Runs `body` with the path of a directory on a file system of `bytes` bytes, in a thread with its
/// own mount namespace. Skips the test if that is not allowed.
void on_small_disk(std::size_t bytes, const std::function<void(const std::string&)>& body);
