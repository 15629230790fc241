#include "files/read_input.hpp"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>
#include <functional>
#include <thread>

namespace powerprefill {
namespace {

class ReadInput : public testing::Test {
 protected:
  ReadInput() : path_(testing::TempDir() + "read-input-" + std::to_string(::getpid())) {}
  ~ReadInput() override { ::unlink(path_.c_str()); }

  void refused(const std::string& word, const std::function<void()>& act) {
    try {
      act();
      ADD_FAILURE() << "not refused: " << word;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::input);
      EXPECT_NE(std::string(error.what()).find(word), std::string::npos) << error.what();
    }
  }

  std::string path_;
};

TEST_F(ReadInput, AFileIsReadWholeUpToTheLimit) {
  std::string text(3'000'000, 'x');
  for (std::size_t i = 0; i < text.size(); i += 7) text[i] = static_cast<char>(i);
  std::ofstream(path_, std::ios::binary) << text;
  EXPECT_EQ(read_text_file(path_, ErrorCode::input), text);
  EXPECT_EQ(read_text_file(path_, ErrorCode::input, 3'000'000), text);
  refused("more than the 2999999", [&] { read_text_file(path_, ErrorCode::input, 2'999'999); });
}

TEST_F(ReadInput, APipeIsReadToItsEndHoweverItArrives) {
  ASSERT_EQ(::mkfifo(path_.c_str(), 0600), 0);
  std::string expected;
  for (int i = 0; i < 50; ++i)
    expected += std::string(static_cast<std::size_t>(i) * 997, static_cast<char>('a' + i % 26));
  std::thread writer([&] {
    std::ofstream out(path_, std::ios::binary);
    for (std::size_t at = 0; at < expected.size(); at += 9973) {
      out << expected.substr(at, 9973) << std::flush;
    }
  });
  EXPECT_EQ(read_text_file(path_, ErrorCode::input), expected);
  writer.join();
}

TEST_F(ReadInput, AnEndlessDeviceMeetsTheLimit) {
  refused("more than", [&] { read_text_file("/dev/zero", ErrorCode::input, 5'000'000); });
}

TEST_F(ReadInput, AFileWithoutASizeIsRead) {
  EXPECT_NE(read_text_file("/proc/self/status", ErrorCode::input).find("Name:"), std::string::npos);
}

TEST_F(ReadInput, AFailedReadIsNoEnd) {
  refused("cannot read", [&] { read_text_file("/proc/self/mem", ErrorCode::input); });
  refused("is a folder", [&] { read_text_file("/", ErrorCode::input); });
}

TEST_F(ReadInput, PeeksTakeNothing) {
  std::ofstream(path_) << "one two";
  InputStream input = InputStream::open(path_, ErrorCode::input);
  EXPECT_EQ(input.peek(3).substr(0, 3), "one");
  EXPECT_EQ(input.peek(1000), "one two");
  input.skip(4);
  EXPECT_EQ(input.position(), 4);
  EXPECT_EQ(input.peek(1), "two");
  input.skip(1000);
  EXPECT_EQ(input.position(), 7);
  EXPECT_EQ(input.peek(1), "");
}

}  // namespace
}  // namespace powerprefill
