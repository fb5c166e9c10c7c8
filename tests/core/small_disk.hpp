// small_disk.hpp: a file system of few bytes, where there may be one: the caller must be able to
// mount.
#pragma once

#include <functional>
#include <string>

/// Runs `body` with the path of a directory on a file system of `bytes` bytes, in a thread whose
/// mounts nobody else sees. Skips the test where that is not allowed.
void on_small_disk(std::size_t bytes, const std::function<void(const std::string&)>& body);
