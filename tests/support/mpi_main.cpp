#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <exception>
#include <optional>
#include <span>
#include <stdexcept>
#include <vector>

#include "support/mpi_test.hpp"

namespace powerprefill::test {
namespace {

// What main() makes before the first test.
struct Job {
  std::string program;
  std::vector<std::string> arguments;
  std::optional<Session> session;
};

Job& job() {
  static Job made;
  return made;
}

// What a call threw, if that was an Error; other exceptions pass.
std::optional<Error> error_of(const std::function<void()>& call) {
  try {
    call();
  } catch (const Error& error) {
    return error;
  }
  return std::nullopt;
}

void expect_is(const std::optional<Error>& error, ErrorCode code, const std::string& text) {
  if (!error) {
    ADD_FAILURE() << "nothing was thrown; expected: " << text;
    return;
  }
  const std::string message = error->what();
  EXPECT_EQ(static_cast<int>(error->code()), static_cast<int>(code)) << message;
  EXPECT_TRUE(message.find(text) != std::string::npos)
      << "expected '" << text << "', got '" << message << "'";
}

// Tells of failures on ranks other than 0, and makes a failure on one rank one on all.
class Ranks : public testing::EmptyTestEventListener {
 public:
  void OnTestProgramStart(const testing::UnitTest& program) override {
    std::string names;
    for (int s = 0; s < program.total_test_suite_count(); ++s) {
      const testing::TestSuite& suite = *program.GetTestSuite(s);
      for (int t = 0; t < suite.total_test_count(); ++t) {
        const testing::TestInfo& test = *suite.GetTestInfo(t);
        if (test.should_run()) names += fmt::format(" {}.{}", suite.name(), test.name());
      }
    }
    world().require_same(ErrorCode::launch, {{"tests", names}});
  }

  void OnTestStart(const testing::TestInfo& test) override {
    test_ = fmt::format("{}.{}", test.test_suite_name(), test.name());
    printed_ = 0;
  }

  void OnTestPartResult(const testing::TestPartResult& result) override {
    if (is_agreeing_ || world().is_root() || !result.failed()) return;
    if (++printed_ > kPrinted) return;
    std::fprintf(stderr, "FAILED on rank %d of %d: %s: %s:%d\n%s\n", world().rank(), world().size(),
                 test_.c_str(), result.file_name() == nullptr ? "?" : result.file_name(),
                 result.line_number(), result.message());
  }

  void OnTestEnd(const testing::TestInfo& test) override {
    const testing::TestResult& own = *test.result();
    const std::vector<int> failed = ranks_with(own.Failed());
    const std::vector<int> skipped = ranks_with(own.Skipped());
    is_agreeing_ = true;
    if (!failed.empty() && world().size() > 1) {
      ADD_FAILURE() << fmt::format("it failed on rank {} of {}", fmt::join(failed, ", "),
                                   world().size());
    } else if (!skipped.empty() && std::ssize(skipped) < world().size()) {
      ADD_FAILURE() << fmt::format("it was skipped on rank {} of {} alone",
                                   fmt::join(skipped, ", "), world().size());
    }
    is_agreeing_ = false;
    test_ = kNoTest;
  }

 private:
  static constexpr int kPrinted = 5;  // of a test's failures
  static constexpr const char* kNoTest = "outside of the tests";

  static std::vector<int> ranks_with(bool property) {
    const std::array<std::byte, 1> mine = {static_cast<std::byte>(property)};
    std::vector<std::byte> all(static_cast<std::size_t>(world().size()));
    world().all_gather(mine, all, std::vector<int>(all.size(), 1));
    std::vector<int> ranks;
    for (int r = 0; r < world().size(); ++r) {
      if (all[static_cast<std::size_t>(r)] != std::byte{0}) ranks.push_back(r);
    }
    return ranks;
  }

  // GoogleTest cannot be asked for it in OnTestPartResult(), which it calls under a lock.
  std::string test_ = kNoTest;
  int printed_ = 0;
  bool is_agreeing_ = false;
};

[[noreturn]] void end_job(const char* what) {
  const testing::TestInfo* test = testing::UnitTest::GetInstance()->current_test_info();
  std::fflush(stdout);
  std::fprintf(stderr, "FAILED %s.%s on rank %d of %d: %s\n",
               test == nullptr ? "" : test->test_suite_name(),
               test == nullptr ? "outside of the tests" : test->name(), world().rank(),
               world().size(), what);
  session().abort(1);
}

// The exit code, the same on all ranks.
int run_tests() {
  testing::UnitTest& program = *testing::UnitTest::GetInstance();
  testing::TestEventListeners& listeners = program.listeners();
  if (!world().is_root()) delete listeners.Release(listeners.default_result_printer());
  listeners.Append(new Ranks);  // last: what it finds is there before others hear of the test's end
  const bool failed = RUN_ALL_TESTS() != 0;
  const int passed = program.successful_test_count();
  const int run = passed + program.failed_test_count();
  if (world().is_root()) {
    std::printf("%d passed, %d failed, %d skipped on %d ranks\n", passed,
                program.failed_test_count(), program.skipped_test_count(), world().size());
    std::fflush(stdout);  // mpirun ends the ranks that are left when one has failed
    if (run == 0) std::fprintf(stderr, "FAILED: no test has run\n");
  }
  return static_cast<int>(world().max(std::int64_t{failed || run == 0}));
}

}  // namespace

Session& session() {
  return job().session.value();
}

const mpi::Communicator& world() {
  return session().mpi().world();
}

const std::string& argument(std::size_t index) {
  if (index < job().arguments.size()) return job().arguments[index];
  throw std::runtime_error(fmt::format("the program needs more than {} arguments", index));
}

void expect_error(ErrorCode code, const std::string& text, const std::function<void()>& call,
                  std::source_location where) {
  const testing::ScopedTrace trace(where.file_name(), static_cast<int>(where.line()), "error");
  expect_is(error_of(call), code, text);
}

void expect_agreed(const mpi::Communicator& comm, ErrorCode code, int rank, const std::string& text,
                   const std::function<void()>& call, std::source_location where) {
  const testing::ScopedTrace trace(where.file_name(), static_cast<int>(where.line()),
                                   "agreed error");
  const std::optional<Error> error = error_of(call);
  expect_is(error, code, text);
  if (error) {
    EXPECT_TRUE(error->is_agreed()) << error->what();
    if (rank != kAnyRank) {
      EXPECT_EQ(error->rank(), rank);
    }
  }
  const std::string seen = error ? fmt::format("{}: {}", error->rank(), error->what()) : "";
  EXPECT_EQ(comm.broadcast_string(seen, 0), seen) << "the ranks differ";
}

void FolderTest::SetUp() {
  const testing::TestInfo& test = *testing::UnitTest::GetInstance()->current_test_info();
  const std::size_t last = std::max<std::size_t>(job().arguments.size(), 1) - 1;
  folder = std::filesystem::path(argument(last)) /
           fmt::format("{}.np{}", job().program, comm.size()) / test.name();
  if (comm.is_root()) {
    std::filesystem::remove_all(folder);
    std::filesystem::create_directories(folder);
  }
  comm.barrier();
}

void FolderTest::TearDown() {
  if (comm.max(std::int64_t{HasFailure()}) > 0 || !comm.is_root()) return;
  std::filesystem::remove_all(folder);
  std::error_code other_tests_left_theirs;
  std::filesystem::remove(folder.parent_path(), other_tests_left_theirs);
}

}  // namespace powerprefill::test

int main(int argc, char** argv) {
  using namespace powerprefill::test;
  GTEST_FLAG_SET(color, "no");  // mpirun gives ranks a terminal, whatever it has itself
  testing::InitGoogleTest(&argc, argv);
  GTEST_FLAG_SET(catch_exceptions, false);  // they reach the handlers below
  GTEST_FLAG_SET(shuffle, false);
  job().program = std::filesystem::path(argv[0]).filename().string();
  for (const char* argument : std::span(argv, static_cast<std::size_t>(argc)).subspan(1)) {
    job().arguments.emplace_back(argument);
  }
  job().session.emplace();
  int code = 1;
  try {
    code = run_tests();
  } catch (const std::exception& error) {
    end_job(error.what());
  } catch (...) {
    end_job("an exception of an unknown type");
  }
  job().session.reset();
  return code;
}
