// The checksum equals published values, and the instruction equals the table.
#include "base/crc32c.hpp"

#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "check.hpp"

using namespace tieralloc;

TEST(crc32c_of_published_vectors) {
  const std::string digits = "123456789";
  CHECK(crc32c(digits.data(), digits.size()) == 0xE3069283u);
  const std::vector<std::byte> zeros(32);
  CHECK(crc32c(zeros.data(), zeros.size()) == 0x8A9136AAu);  // RFC 3720, B.4
  CHECK(crc32c(nullptr, 0) == 0);
}

TEST(crc32c_by_instruction_equals_table) {
  std::mt19937 random(7);
  std::vector<std::byte> bytes(40000);
  for (std::byte& byte : bytes) byte = static_cast<std::byte>(random());
  for (int i = 0; i < 400; ++i) {
    const std::size_t begin = random() % 64;
    const std::size_t size = random() % (i % 2 == 0 ? 300 : bytes.size() - begin);
    CHECK(crc32c(bytes.data() + begin, size) == crc32c_by_table(bytes.data() + begin, size));
  }
}
