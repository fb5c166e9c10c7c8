// check.hpp: macros of tests. TEST(name) { CHECK(...); } registers itself; main.cpp runs all tests.
#pragma once

#include <concepts>
#include <cstdint>
#include <ostream>
#include <sstream>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace check {

struct Test {
  const char* name;
  void (*body)();
};

inline std::vector<Test>& tests() {
  static std::vector<Test> list;
  return list;
}

struct Register {
  Register(const char* name, void (*body)()) { tests().push_back({name, body}); }
};

/// Thrown by a failed check. No std::exception, so that no handler under test catches it.
struct Failed {
  std::string message;
};

/// Thrown if this machine cannot run a test.
struct Skipped {
  std::string reason;
};

template <typename T>
std::string show(const T& value) {
  std::ostringstream out;
  if constexpr (std::is_enum_v<T>) {
    out << static_cast<std::int64_t>(value);
  } else if constexpr (requires { out << value; }) {
    out.precision(17);
    out << value;
  } else {
    out << "(" << sizeof(T) << " bytes)";
  }
  return out.str();
}

[[noreturn]] inline void fail(const char* file, int line, const std::string& what) {
  throw Failed{std::string(file) + ":" + std::to_string(line) + ": " + what};
}

template <typename A, typename B>
bool equal(const A& a, const B& b) {
  if constexpr (std::integral<A> && std::integral<B> && !std::same_as<A, bool> &&
                !std::same_as<B, bool>) {
    return std::cmp_equal(a, b);
  } else {
    return a == b;
  }
}

template <typename A, typename B>
void check_equal(const A& a, const B& b, const char* a_text, const char* b_text, const char* file,
                 int line) {
  if (equal(a, b)) return;
  fail(file, line, std::string(a_text) + " is " + show(a) + ", " + b_text + " is " + show(b));
}

}  // namespace check

#define TEST(name)                                                    \
  static void test_##name();                                          \
  static const check::Register registered_##name{#name, test_##name}; \
  static void test_##name()

#define CHECK(condition) \
  ((condition) ? void() : check::fail(__FILE__, __LINE__, "does not hold: " #condition))

#define CHECK_EQ(a, b) check::check_equal(a, b, #a, #b, __FILE__, __LINE__)

/// The expression throws `type`, and its message contains `part`.
#define CHECK_THROWS(type, expression, part)                                             \
  do {                                                                                   \
    bool check_thrown = false;                                                           \
    try {                                                                                \
      (void)(expression);                                                                \
    } catch (const type& error) {                                                        \
      check_thrown = true;                                                               \
      if (std::string(error.what()).find(part) == std::string::npos) {                   \
        check::fail(__FILE__, __LINE__,                                                  \
                    #expression " says '" + std::string(error.what()) + "', without '" + \
                        std::string(part) + "'");                                        \
      }                                                                                  \
    }                                                                                    \
    if (!check_thrown) check::fail(__FILE__, __LINE__, #expression " throws no " #type); \
  } while (false)

#define SKIP(reason)     \
  throw check::Skipped { \
    reason               \
  }
