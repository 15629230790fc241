#include "base/thread_pool.hpp"

#include <gtest/gtest.h>

#include <stdexcept>
#include <string>

namespace powerprefill {
namespace {

TEST(ThreadPool, RunsEveryTaskOnce) {
  for (const int threads : {1, 2, 3, 8}) {
    ThreadPool pool(threads);
    EXPECT_EQ(pool.threads(), threads);
    for (const std::int64_t count : {0, 1, 2, 7, 1000}) {
      std::vector<std::atomic<int>> runs(static_cast<std::size_t>(count));
      std::atomic<int> bad_thread{0};
      pool.run(count, [&](std::int64_t i, int thread) {
        ++runs[static_cast<std::size_t>(i)];
        if (thread < 0 || thread >= threads) ++bad_thread;
      });
      for (const auto& n : runs) ASSERT_EQ(n, 1);
      EXPECT_EQ(bad_thread, 0);
    }
  }
}

TEST(ThreadPool, ANegativeCountRunsNothing) {
  ThreadPool pool(2);
  pool.run(-5, [](std::int64_t, int) { FAIL(); });
}

// Each thread number belongs to one thread at a time: tasks may use it to pick working memory.
TEST(ThreadPool, ThreadNumbersAreNotShared) {
  ThreadPool pool(4);
  std::vector<std::atomic<int>> busy(4);
  std::atomic<int> clashes{0};
  pool.run(2000, [&](std::int64_t, int thread) {
    if (busy[static_cast<std::size_t>(thread)]++ != 0) ++clashes;
    std::this_thread::yield();
    --busy[static_cast<std::size_t>(thread)];
  });
  EXPECT_EQ(clashes, 0);
}

TEST(ThreadPool, ThreadZeroIsTheCaller) {
  ThreadPool pool(3);
  const auto caller = std::this_thread::get_id();
  std::atomic<int> wrong{0};
  pool.run(500, [&](std::int64_t, int thread) {
    if ((thread == 0) != (std::this_thread::get_id() == caller)) ++wrong;
  });
  EXPECT_EQ(wrong, 0);
}

TEST(ThreadPool, BetweenIsCalledByTheCallerAfterEachOfItsTasks) {
  const auto caller = std::this_thread::get_id();
  for (const int threads : {1, 3}) {
    ThreadPool pool(threads);
    for (int round = 0; round < 20; ++round) {
      std::atomic<int> own_tasks{0};
      std::atomic<int> calls{0};
      std::atomic<int> elsewhere{0};
      pool.run(
          200,
          [&](std::int64_t, int thread) {
            if (thread == 0) ++own_tasks;
          },
          [&] {
            ++calls;
            if (std::this_thread::get_id() != caller) ++elsewhere;
          });
      EXPECT_EQ(calls, own_tasks);
      EXPECT_EQ(elsewhere, 0);
      EXPECT_TRUE(threads > 1 || calls == 200);
    }
  }
}

TEST(ThreadPool, ExceptionsComeBackAndThePoolGoesOn) {
  for (const int threads : {1, 2, 5}) {
    ThreadPool pool(threads);
    for (int round = 0; round < 50; ++round) {
      std::atomic<int> ran{0};
      try {
        pool.run(100, [&](std::int64_t i, int) {
          ++ran;
          if (i == 37) throw std::runtime_error("task 37");
        });
        ADD_FAILURE() << "nothing was thrown";
      } catch (const std::runtime_error& error) {
        EXPECT_STREQ(error.what(), "task 37");
      }
      EXPECT_GE(ran, 38);
      ran = 0;
      pool.run(100, [&](std::int64_t, int) { ++ran; });
      EXPECT_EQ(ran, 100);
    }
  }
}

TEST(ThreadPool, OneExceptionOfManyComesBack) {
  ThreadPool pool(4);
  for (int round = 0; round < 50; ++round) {
    EXPECT_THROW(pool.run(64, [](std::int64_t, int) { throw std::runtime_error("all"); }),
                 std::runtime_error);
  }
}

TEST(ThreadPool, AnExceptionOfBetweenComesBack) {
  ThreadPool pool(1);
  int tasks = 0;
  EXPECT_THROW(pool.run(
                   10, [&](std::int64_t, int) { ++tasks; }, [] { throw std::logic_error("mpi"); }),
               std::logic_error);
  EXPECT_EQ(tasks, 1);
}

TEST(ThreadPool, IsReusedManyTimes) {
  ThreadPool pool(3);
  std::atomic<std::int64_t> sum{0};
  for (int round = 0; round < 20000; ++round) {
    pool.run(3, [&](std::int64_t i, int) { sum += i; });
  }
  EXPECT_EQ(sum, 60000);
}

// What tasks write is seen by the caller after run(), and by the tasks of the next run.
TEST(ThreadPool, ResultsAreVisible) {
  ThreadPool pool(4);
  std::vector<std::int64_t> values(1000, 0);
  for (int round = 0; round < 100; ++round) {
    pool.run(1000, [&](std::int64_t i, int) {
      values[static_cast<std::size_t>(i)] += values[static_cast<std::size_t>(i)] + i + 1;
    });
    if (round == 2) {
      for (std::int64_t i = 0; i < 1000; ++i) {
        ASSERT_EQ(values[static_cast<std::size_t>(i)], 7 * (i + 1));
      }
      std::fill(values.begin(), values.end(), 0);
    } else if (round > 2) {
      std::fill(values.begin(), values.end(), 0);
    }
  }
}

TEST(ThreadPool, APoolThatNeverRanEnds) {
  ThreadPool pool(8);
}

}  // namespace
}  // namespace powerprefill
