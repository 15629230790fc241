// GoogleTest on several ranks. mpi_main.cpp has the main(): every rank of the job runs the same
// tests in the same order, and after each test all ranks agree on its result, so that one that
// fails anywhere is counted as failed everywhere. Rank 0 prints what GoogleTest prints, the others
// their failures.
//
// A test is collective, which makes rules:
// - EXPECT_* notes a failure and goes on: no rank is left waiting for another.
// - ASSERT_*, FAIL() and GTEST_SKIP() leave the test. They are for what all ranks see alike: the
//   number of ranks, or a value that was broadcast or reduced.
// - What escapes a test as an exception ends the job, since other ranks may wait for this one. A
//   helper throws where it cannot go on.
// - A test that needs more ranks than there are skips, with the reason, on all of them. A program
//   of which no test has run fails.
#pragma once

#include <gtest/gtest.h>

#include <cstddef>
#include <filesystem>
#include <functional>
#include <source_location>
#include <string>

#include "mpi/session.hpp"
#include "powerprefill/session.hpp"

namespace powerprefill::test {

// The job, from before the first test to after the last.
Session& session();
const mpi::Communicator& world();

// The program's arguments but those for GoogleTest, from 0. Throws where there is none.
const std::string& argument(std::size_t index);

// Runs `call`, which must throw an Error of this code with this text in its message.
void expect_error(ErrorCode code, const std::string& text, const std::function<void()>& call,
                  std::source_location where = std::source_location::current());

// Collective over `comm`. Runs a collective `call`, which must throw an agreed Error: the same on
// all ranks, of this code, detected by `rank`, with this text in its message.
inline constexpr int kAnyRank = -1;
void expect_agreed(const mpi::Communicator& comm, ErrorCode code, int rank, const std::string& text,
                   const std::function<void()>& call,
                   std::source_location where = std::source_location::current());

// A test with an empty folder of its own, which all ranks share, in the folder that is the
// program's last argument. It stays where the test fails.
class FolderTest : public testing::Test {
 protected:
  void SetUp() override;
  void TearDown() override;

  const mpi::Communicator& comm = world();
  std::filesystem::path folder;
};

}  // namespace powerprefill::test
