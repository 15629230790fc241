#include "files/output_file.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <fstream>
#include <vector>

#include "files/output_target.hpp"

namespace powerprefill {
namespace {

namespace fs = std::filesystem;

class OutputFileTest : public ::testing::Test {
 protected:
  void SetUp() override { fs::create_directory(folder_); }
  void TearDown() override { fs::remove_all(folder_); }

  void make(const std::string& name, const std::string& text) {
    std::ofstream(folder_ / name) << text;
  }
  std::string read(const std::string& name) {
    return read_text_file(folder_ / name, ErrorCode::input);
  }
  std::vector<std::string> names() {
    std::vector<std::string> names;
    for (const auto& entry : fs::directory_iterator(folder_)) {
      names.push_back(entry.path().filename().string());
    }
    std::sort(names.begin(), names.end());
    return names;
  }
  static ErrorCode code_of(const std::function<void()>& body) {
    try {
      body();
    } catch (const Error& error) {
      return error.code();
    }
    ADD_FAILURE() << "nothing was thrown";
    return ErrorCode::internal;
  }

  fs::path folder_ =
      fs::temp_directory_path() / ("powerprefill-output-" + std::to_string(::getpid()));
};

using Names = std::vector<std::string>;

TEST_F(OutputFileTest, AFileIsThereWhenItIsWhole) {
  OutputFile file(folder_ / "a");
  EXPECT_EQ(names(), Names());
  file.write("one ");
  file.write("two");
  EXPECT_EQ(file.bytes(), 7);
  EXPECT_FALSE(fs::exists(folder_ / "a"));
  file.commit();
  EXPECT_EQ(names(), Names{"a"});
  EXPECT_EQ(read("a"), "one two");
}

TEST_F(OutputFileTest, WithoutACommitNothingChanges) {
  make("a", "old");
  {
    OutputFile file(folder_ / "a");
    file.write("new");
    OutputFile moved = std::move(file);
    moved.write("er");
    EXPECT_EQ(names().size(), 2U);
  }
  EXPECT_EQ(names(), Names{"a"});
  EXPECT_EQ(read("a"), "old");
}

TEST_F(OutputFileTest, NothingWrittenIsAnEmptyFile) {
  make("a", "old");
  OutputFile(folder_ / "a").commit();
  EXPECT_EQ(read("a"), "");
}

TEST_F(OutputFileTest, AnExistingFileMayBeRefused) {
  make("a", "old");
  EXPECT_EQ(code_of([&] { OutputFile(folder_ / "a", OutputFile::Existing::refuse); }),
            ErrorCode::usage);
  OutputFile late(folder_ / "b", OutputFile::Existing::refuse);
  late.write("new");
  make("b", "somebody's");
  EXPECT_EQ(code_of([&] { late.commit(); }), ErrorCode::usage);
  EXPECT_EQ(read("b"), "somebody's");
}

TEST_F(OutputFileTest, LinksAreFollowedToTheLast) {
  fs::create_directory(folder_ / "d");
  fs::create_symlink("d/second", folder_ / "first");
  fs::create_symlink("../end", folder_ / "d" / "second");
  OutputFile file(folder_ / "first");
  file.write("text");
  file.commit();
  EXPECT_EQ(read("end"), "text");
  EXPECT_EQ(names(), (Names{"d", "end", "first"}));
  EXPECT_TRUE(fs::is_symlink(folder_ / "d" / "second"));

  fs::create_symlink("loop", folder_ / "loop");
  EXPECT_EQ(code_of([&] { OutputFile(folder_ / "loop"); }), ErrorCode::storage);
}

TEST_F(OutputFileTest, ModesAreThoseOfTheReplacedFileOrOfTheUmask) {
  const auto mode = [&](const std::string& name) {
    return static_cast<unsigned>(fs::status(folder_ / name).permissions());
  };
  const mode_t old = ::umask(002);
  OutputFile(folder_ / "new").commit();
  ::umask(old);
  EXPECT_EQ(mode("new"), 0664U);
  ::chmod((folder_ / "new").c_str(), 0600);
  OutputFile(folder_ / "new").commit();
  EXPECT_EQ(mode("new"), 0600U);
}

TEST_F(OutputFileTest, LongNamesHaveTemporariesToo) {
  const std::string name(255, 'x');
  OutputFile(folder_ / name).commit();
  EXPECT_EQ(names(), Names{name});
  EXPECT_EQ(code_of([&] { OutputFile(folder_ / (name + "x")); }), ErrorCode::storage);
}

TEST_F(OutputFileTest, WhatIsNoFileIsRefused) {
  EXPECT_EQ(code_of([&] { OutputFile{folder_}; }), ErrorCode::usage);
  EXPECT_EQ(code_of([&] { OutputFile(folder_ / ""); }), ErrorCode::usage);
  EXPECT_EQ(code_of([&] { OutputFile(folder_ / "no" / "a"); }), ErrorCode::storage);
}

TEST_F(OutputFileTest, ADescriptorIsWrittenWhereItStands) {
  make("a", "old ");
  const FileHandle open = FileHandle::open(folder_ / "a", O_WRONLY | O_APPEND, ErrorCode::storage);
  OutputFile stream("/dev/fd/" + std::to_string(open.fd()));
  EXPECT_TRUE(stream.is_stream());
  stream.write("new");
  stream.commit();
  EXPECT_EQ(read("a"), "old new");
  const FileHandle reading = FileHandle::open(folder_ / "a", O_RDONLY, ErrorCode::storage);
  EXPECT_EQ(code_of([&] { OutputFile("/dev/fd/" + std::to_string(reading.fd())); }),
            ErrorCode::storage);
}

TEST_F(OutputFileTest, AFailedWriteLeavesWhatCameBefore) {
  const auto old_handler = std::signal(SIGXFSZ, SIG_IGN);
  rlimit old{};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &old), 0);
  make("a", "old");
  OutputFile file(folder_ / "a");
  file.write("line\n");
  const rlimit small = {.rlim_cur = 8, .rlim_max = old.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &small), 0);
  EXPECT_EQ(code_of([&] { file.write("another line\n"); }), ErrorCode::storage);
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &old), 0);
  std::signal(SIGXFSZ, old_handler);
  const fs::path kept = file.keep_aside();
  EXPECT_EQ(read(kept.filename()), "line\n");
  EXPECT_EQ(names(), (Names{"a", kept.filename()}));
  EXPECT_EQ(read("a"), "old");
}

TEST_F(OutputFileTest, FilesAreTheSameByIdentity) {
  make("a", "");
  make("b", "");
  fs::create_symlink("a", folder_ / "link");
  fs::create_hard_link(folder_ / "a", folder_ / "hard");
  fs::create_symlink("none", folder_ / "dangling");
  const auto of = [&](const std::string& name) {
    return OutputTarget::of(folder_ / name).identity;
  };
  EXPECT_EQ(of("a"), of("link"));
  EXPECT_EQ(of("a"), of("./hard"));
  EXPECT_NE(of("a"), of("b"));
  EXPECT_EQ(of("none"), of("dangling"));
  EXPECT_NE(of("none"), of("other"));
  EXPECT_EQ(identity_of(folder_ / "a"), of("a"));
  EXPECT_EQ(identity_of(folder_ / "none"), of("none"));
  EXPECT_FALSE(of("no/a"));
}

}  // namespace
}  // namespace powerprefill
