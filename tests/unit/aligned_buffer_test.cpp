#include "base/aligned_buffer.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <utility>

namespace powerprefill {
namespace {

// Around the size from which on the operating system is asked for pages.
constexpr std::int64_t kSizes[] = {0, 1, 63, (4 << 20) - 1, 4 << 20, (4 << 20) + 1, 9 << 20};

TEST(AlignedBuffer, IsZeroAlignedAndWritable) {
  for (const std::int64_t size : kSizes) {
    for (int time = 0; time < 2; ++time) {  // also when memory comes back
      AlignedBuffer<unsigned char> buffer(size);
      ASSERT_EQ(std::ssize(buffer.span()), size);
      EXPECT_EQ(reinterpret_cast<std::uintptr_t>(buffer.data()) % kCacheLine, 0U) << size;
      EXPECT_EQ(std::count(buffer.span().begin(), buffer.span().end(), 0), size);
      std::fill(buffer.span().begin(), buffer.span().end(), 7);
    }
  }
}

TEST(AlignedBuffer, MovesBetweenAllSizes) {
  for (const std::int64_t from : kSizes) {
    for (const std::int64_t to : kSizes) {
      AlignedBuffer<unsigned char> source(from);
      std::fill(source.span().begin(), source.span().end(), 3);
      AlignedBuffer<unsigned char> target(to);
      target = std::move(source);
      EXPECT_EQ(std::count(target.span().begin(), target.span().end(), 3), from);
      EXPECT_TRUE(source.empty());  // NOLINT: what a moved-from buffer is, is promised
      const AlignedBuffer<unsigned char> made(std::move(target));
      EXPECT_EQ(std::ssize(made.span()), from);
    }
  }
}

}  // namespace
}  // namespace powerprefill
