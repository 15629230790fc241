// A small harness for tests that run on several ranks: cases are collective, and a failed check is
// counted instead of thrown, so that no rank is left waiting for another.
#pragma once

#include <cstdint>
#include <cstdio>
#include <exception>
#include <functional>
#include <string>
#include <vector>

#include "mpi/session.hpp"

namespace powerprefill {

class MpiChecks {
 public:
  explicit MpiChecks(const mpi::Communicator& comm) : comm_(comm) {}

  const mpi::Communicator& comm() const { return comm_; }

  // Counts; the first failures of a rank are printed. `what` is asked for only then.
  void expect(bool condition, const std::function<std::string()>& what) {
    ++(condition ? passed_ : failed_);
    if (condition || failed_ > kPrinted) return;
    std::fprintf(stderr, "FAILED on rank %d of %d: %s\n", comm_.rank(), comm_.size(),
                 what().c_str());
  }
  void expect(bool condition, const char* what) {
    expect(condition, [what] { return std::string(what); });
  }

  // Runs a collective `call`, which must throw an agreed Error: the same on all ranks, of this
  // code, detected by `rank` (or by any rank, for -1), with this text in its message.
  void expect_agreed(ErrorCode code, int rank, const std::string& text,
                     const std::function<void()>& call) {
    try {
      call();
      expect(false, [&] { return "nothing was thrown; expected: " + text; });
    } catch (const Error& error) {
      const std::string message = error.what();
      expect(error.is_agreed() && error.code() == code, [&] { return "code or kind: " + message; });
      expect(rank < 0 || error.rank() == rank, [&] {
        return "rank " + std::to_string(error.rank()) + " for " + std::to_string(rank);
      });
      expect(message.find(text) != std::string::npos,
             [&] { return "expected '" + text + "', got '" + message + "'"; });
    }
  }

  std::int64_t passed() const { return passed_; }
  std::int64_t failed() const { return failed_; }

 private:
  static constexpr std::int64_t kPrinted = 5;
  const mpi::Communicator& comm_;
  std::int64_t passed_ = 0;
  std::int64_t failed_ = 0;
};

struct MpiCase {
  const char* name;
  void (*run)(MpiChecks& checks);
};

// Runs all cases on all ranks. Rank 0 prints one line with the totals; returns the exit code.
inline int run_mpi_cases(const std::vector<MpiCase>& cases) {
  mpi::Session session = mpi::Session::start();
  MpiChecks checks(session.world());
  for (const MpiCase& test : cases) {
    const std::int64_t failed_before = checks.failed();
    try {
      test.run(checks);
      session.world().barrier();
    } catch (const std::exception& error) {
      std::fprintf(stderr, "FAILED %s on rank %d of %d: %s\n", test.name, session.world().rank(),
                   session.world().size(), error.what());
      session.abort(1);
    }
    if (checks.failed() > failed_before) {
      std::fprintf(stderr, "FAILED %s on rank %d of %d\n", test.name, session.world().rank(),
                   session.world().size());
    }
  }
  const std::int64_t passed = session.world().sum(checks.passed());
  const std::int64_t failed = session.world().sum(checks.failed());
  if (session.world().is_root()) {
    std::printf("%lld passed, %lld failed on %d ranks\n", static_cast<long long>(passed),
                static_cast<long long>(failed), session.world().size());
  }
  return failed == 0 ? 0 : 1;
}

}  // namespace powerprefill
