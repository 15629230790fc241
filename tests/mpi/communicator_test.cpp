// Communicators, messages, memory shared by a node, and single rows split over ranks.
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <filesystem>
#include <memory>
#include <new>
#include <numeric>
#include <random>
#include <stdexcept>

#include "layers/row_parallel.hpp"
#include "mpi/request.hpp"
#include "mpi/shared_memory.hpp"
#include "run/unagreed_failure.hpp"
#include "support/mpi_test.hpp"

namespace powerprefill {
namespace {

namespace fs = std::filesystem;
using mpi::Communicator;
using mpi::SharedMemory;
using mpi::SharedStore;
using test::expect_agreed;
using test::expect_error;
using test::world;

TEST(CommunicatorTest, Agreement) {
  const Communicator& comm = world();
  comm.agree([] {});
  for (int failing = 0; failing < comm.size(); ++failing) {
    const auto fail = [&](const std::function<void()>& how) {
      return [&comm, failing, how] {
        comm.agree([&] {
          if (comm.rank() == failing) how();
        });
      };
    };
    for (const ErrorCode code :
         {ErrorCode::internal, ErrorCode::usage, ErrorCode::input, ErrorCode::cache,
          ErrorCode::storage, ErrorCode::launch, ErrorCode::interrupted}) {
      const std::string text = fmt::format("rank {} saw {}", failing, static_cast<int>(code));
      expect_agreed(comm, code, failing, text, fail([&] { throw Error(code, text); }));
    }
    expect_agreed(comm, ErrorCode::internal, failing, "what a library threw",
                  fail([] { throw std::runtime_error("what a library threw"); }));
    expect_agreed(comm, ErrorCode::internal, failing, "out of memory",
                  fail([] { throw std::bad_alloc(); }));
    const std::string long_text(100000, 'x');
    expect_agreed(comm, ErrorCode::input, failing, long_text,
                  fail([&] { throw Error(ErrorCode::input, long_text); }));
    expect_agreed(comm, ErrorCode::input, failing, "",
                  fail([&] { throw Error(ErrorCode::input, ""); }));
    // All ranks from `failing` on: the lowest one speaks for all.
    expect_agreed(comm, ErrorCode::cache, failing, fmt::format("rank {}!", failing), [&] {
      comm.agree([&] {
        if (comm.rank() < failing) return;
        throw Error(comm.rank() == failing ? ErrorCode::cache : ErrorCode::storage,
                    fmt::format("rank {}!", comm.rank()));
      });
    });
    // An agreement inside another is agreed once.
    expect_agreed(comm, ErrorCode::launch, failing, "inner", [&] {
      comm.agree([&] {
        comm.agree([&] {
          if (comm.rank() == failing) throw Error(ErrorCode::launch, "inner");
        });
      });
    });
    EXPECT_EQ(comm.sum(std::int64_t{1}), comm.size()) << "the ranks are out of step";
  }
}

TEST(CommunicatorTest, Broadcasts) {
  const Communicator& comm = world();
  for (int root = 0; root < comm.size(); ++root) {
    for (const std::size_t size : {0U, 1U, 13U, 5000U, 3000000U}) {
      std::string text(size, '\0');
      for (std::size_t i = 0; i < size; ++i) text[i] = static_cast<char>(i * i + 31 * i);
      const std::string mine = comm.rank() == root ? text : "a text that has to go";
      EXPECT_TRUE(comm.broadcast_string(mine, root) == text) << "a string came wrong";
    }
    std::array<double, 3> values = {};
    if (comm.rank() == root) values = {1.5, -2, static_cast<double>(root)};
    comm.broadcast_value(values, root);
    EXPECT_EQ(values, (std::array<double, 3>{1.5, -2, static_cast<double>(root)}));
    comm.broadcast({}, root);
  }
}

TEST(CommunicatorTest, Reductions) {
  const Communicator& comm = world();
  const std::int64_t size = comm.size();
  const std::int64_t rank = comm.rank();
  constexpr std::int64_t large = std::int64_t{1} << 40;
  EXPECT_EQ(comm.sum(large + rank), size * large + size * (size - 1) / 2);
  EXPECT_EQ(comm.prefix_sum(large + rank), rank * large + rank * (rank - 1) / 2);
  EXPECT_EQ(comm.max(large - rank), large);
  EXPECT_EQ(comm.min(-large * rank), -large * (size - 1));
  EXPECT_EQ(comm.max(-0.5 - static_cast<double>(rank)), -0.5);
}

TEST(CommunicatorTest, Gathers) {
  const Communicator& comm = world();
  const auto text_of = [](int rank) {
    return rank % 3 == 1 ? std::string()
                         : std::string(static_cast<std::size_t>(rank * 1000), 'a') + '\0' +
                               std::to_string(rank);
  };
  for (int root = 0; root < comm.size(); ++root) {
    const std::vector<std::string> texts = comm.gather_strings(text_of(comm.rank()), root);
    if (comm.rank() != root) {
      EXPECT_TRUE(texts.empty()) << "texts on another rank than the root";
      continue;
    }
    EXPECT_EQ(std::ssize(texts), comm.size());
    for (int r = 0; r < comm.size(); ++r) {
      EXPECT_TRUE(texts.at(static_cast<std::size_t>(r)) == text_of(r)) << "a text came wrong";
    }
  }

  // Pieces of 0, 7, 14, ... bytes, and none but the last rank's.
  for (const bool last_only : {false, true}) {
    std::vector<int> pieces;
    std::vector<std::byte> expected;
    std::vector<std::byte> mine;
    for (int r = 0; r < comm.size(); ++r) {
      pieces.push_back(last_only ? (r + 1 == comm.size() ? 1000 : 0) : 7 * r);
      const std::vector<std::byte> piece(static_cast<std::size_t>(pieces.back()),
                                         static_cast<std::byte>(r + 1));
      expected.insert(expected.end(), piece.begin(), piece.end());
      if (r == comm.rank()) mine = piece;
    }
    std::vector<std::byte> all(expected.size());
    comm.all_gather(mine, all, pieces);
    EXPECT_TRUE(all == expected) << "all_gather";
  }
}

TEST(CommunicatorTest, Splits) {
  const Communicator& comm = world();
  const Communicator node = comm.split_node();
  std::array<char, 256> name = {};
  ::gethostname(name.data(), name.size() - 1);
  const std::string host = name.data();
  EXPECT_EQ(node.sum(std::int64_t{1}), node.size()) << "the node's ranks do not add up";
  EXPECT_EQ(node.broadcast_string(host, 0), host) << "a node with two names";
  EXPECT_EQ(comm.sum(std::int64_t{node.is_root() ? node.size() : 0}), comm.size())
      << "a rank is in no node, or in two";
  // Ranks keep their order.
  EXPECT_EQ(node.prefix_sum(1), node.rank()) << "order in the node";
  std::int64_t before = comm.rank();
  node.broadcast_value(before, 0);
  EXPECT_LE(before, comm.rank()) << "the node's first rank is not its lowest";

  const Communicator numa = node.split_numa();
  EXPECT_LE(numa.size(), node.size()) << "a NUMA domain larger than its node";
  EXPECT_EQ(node.sum(std::int64_t{numa.is_root() ? numa.size() : 0}), node.size())
      << "a rank is in no NUMA domain, or in two";
}

// Messages of a duplicate do not meet those of the original, whatever their tags.
TEST(CommunicatorTest, Duplicates) {
  const Communicator& comm = world();
  Communicator copy = comm.dup();
  const int next = (comm.rank() + 1) % comm.size();
  const int previous = (comm.rank() + comm.size() - 1) % comm.size();
  const std::array<std::int64_t, 2> sent = {comm.rank(), 1000 + comm.rank()};
  std::array<std::int64_t, 2> received = {};
  const auto bytes_of = [](auto& value) { return std::as_bytes(std::span(&value, 1)); };
  mpi::RequestBatch batch;
  batch.send(copy, next, 3, bytes_of(sent[1]));
  batch.send(comm, next, 3, bytes_of(sent[0]));
  batch.receive(comm, previous, 3, std::as_writable_bytes(std::span(received).first(1)));
  batch.receive(copy, previous, 3, std::as_writable_bytes(std::span(received).last(1)));
  batch.wait();
  EXPECT_EQ(received, (std::array<std::int64_t, 2>{previous, 1000 + previous}))
      << "messages crossed between communicators";
  Communicator moved = std::move(copy);
  EXPECT_TRUE(moved.rank() == comm.rank() && moved.size() == comm.size()) << "a move lost the rank";
  EXPECT_EQ(moved.sum(std::int64_t{1}), comm.size()) << "the moved communicator does not work";
}

TEST(CommunicatorTest, Messages) {
  const Communicator& comm = world();
  const int next = (comm.rank() + 1) % comm.size();
  const int previous = (comm.rank() + comm.size() - 1) % comm.size();
  for (const std::size_t size : {0U, 1U, 3000U, 2000000U}) {
    const std::vector<std::byte> mine(size, static_cast<std::byte>(comm.rank() + 1));
    std::vector<std::byte> found(size);
    mpi::RequestBatch batch;
    EXPECT_TRUE(batch.is_complete() && batch.test()) << "an empty batch is complete";
    batch.receive(comm, previous, 1, found);
    batch.send(comm, next, 1, mine);
    EXPECT_EQ(batch.is_complete(), size == 0) << "a batch with messages is not complete yet";
    mpi::RequestBatch moved = std::move(batch);
    EXPECT_TRUE(batch.is_complete()) << "a batch that was moved from is complete";  // NOLINT
    if (size % 2 == 0) {
      moved.wait();
    } else {
      while (!moved.test()) {
      }
    }
    EXPECT_TRUE(moved.is_complete()) << "complete after waiting";
    EXPECT_EQ(moved.bytes_received(), static_cast<std::int64_t>(size));
    EXPECT_TRUE(found == std::vector<std::byte>(size, static_cast<std::byte>(previous + 1)))
        << "a message came wrong";
    moved.wait();  // again, without effect
  }

  // Fewer bytes than planned.
  const std::array<std::byte, 4> little = {};
  std::array<std::byte, 8> room = {};
  mpi::RequestBatch batch;
  batch.receive(comm, previous, 2, room);
  batch.send(comm, next, 2, little);
  expect_error(ErrorCode::internal, "4 bytes where 8", [&] { batch.wait(); });
  while (!batch.test()) {
  }
}

// Every rank writes its part and reads those of all others.
void use_shared_memory(const Communicator& node, SharedStore store, std::int64_t bytes,
                       const fs::path& folder) {
  SharedMemory made = SharedMemory::make(node, bytes, store, folder);
  SharedMemory memory = std::move(made);
  EXPECT_TRUE(made.bytes().empty()) << "memory that was moved from";  // NOLINT
  EXPECT_EQ(std::ssize(memory.bytes()), bytes);
  EXPECT_EQ(memory.location(),
            store == SharedStore::file ? "file in " + folder.string() : "memory");
  node.barrier();
  EXPECT_TRUE(fs::is_empty(folder)) << "a file is left in the scratch folder";
  EXPECT_TRUE(std::all_of(memory.bytes().begin(), memory.bytes().end(), [](std::byte b) {
    return b == std::byte{0};
  })) << "the memory is not zero at first";
  node.barrier();
  const auto part_begin = [&](int rank) {
    return static_cast<std::size_t>(bytes * rank / node.size());
  };
  for (std::size_t i = part_begin(node.rank()); i < part_begin(node.rank() + 1); ++i) {
    memory.bytes()[i] = static_cast<std::byte>(i * 7 + 1);
  }
  node.barrier();
  bool is_right = true;
  for (std::size_t i = 0; i < memory.bytes().size(); ++i) {
    is_right = is_right && memory.bytes()[i] == static_cast<std::byte>(i * 7 + 1);
  }
  EXPECT_TRUE(is_right) << "a rank does not see what another wrote";
  node.barrier();
}

TEST(CommunicatorTest, SharedMemoryOfANode) {
  const Communicator node = world().split_node();
  std::string name = fmt::format("powerprefill-communicator-test-{}", std::random_device{}());
  const fs::path folder = fs::temp_directory_path() / node.broadcast_string(name, 0);
  if (node.is_root()) fs::create_directory(folder);
  node.barrier();
  for (const SharedStore store : {SharedStore::memory, SharedStore::file, SharedStore::automatic}) {
    for (const std::int64_t bytes : {0, 1, 4095, 4096, 1000001}) {
      use_shared_memory(node, store, bytes, folder);
    }
  }
  expect_agreed(node, ErrorCode::storage, 0, "not-there",
                [&] { SharedMemory::make(node, 100, SharedStore::file, folder / "not-there"); });
  node.barrier();
  EXPECT_TRUE(fs::is_empty(folder)) << "a file is left after a failure";
  node.barrier();
  if (node.is_root()) fs::remove(folder);
}

TEST(CommunicatorTest, WhatRanksHaveInCommon) {
  world().require_same(ErrorCode::input, {{"colour", "blue"}, {"size", "7", "take another"}});
}

TEST(CommunicatorTest, WhatDiffersOverRanks) {
  const Communicator& comm = world();
  if (comm.size() == 1) GTEST_SKIP() << "one rank differs from none";
  const std::string own = comm.rank() == 1 ? "8" : "7";
  expect_agreed(
      comm, ErrorCode::input, 1, "the ranks differ in their size: '8' on rank 1 (host ", [&] {
        comm.require_same(ErrorCode::input, {{"colour", "blue"}, {"size", own, "take another"}});
      });
}

// What MPI may still write to outlives a failure of one rank alone, of any kind; after one that all
// ranks have, nothing is in flight.
TEST(CommunicatorTest, BuffersOutliveAnUnagreedFailure) {
  const Communicator& comm = world();
  const auto lets_go = [&](const std::function<void()>& failure) {
    auto held = std::make_unique<int>(0);
    int* const raw = held.get();
    bool thrown = false;
    try {
      leak_on_unagreed_failure(comm, held, failure);
    } catch (const std::exception&) {
      thrown = true;
    }
    EXPECT_TRUE(thrown) << "the failure is passed on";
    if (held == nullptr) delete raw;  // the job would end here
    return held == nullptr;
  };
  const bool several = comm.size() > 1;
  EXPECT_EQ(lets_go([] { throw std::bad_alloc(); }), several) << "out of memory";
  EXPECT_EQ(lets_go([] { throw std::runtime_error("any"); }), several) << "any exception";
  EXPECT_EQ(lets_go([] { throw Error(ErrorCode::input, "one"); }), several) << "one rank's Error";
  EXPECT_FALSE(lets_go([] { throw Error::agreed(ErrorCode::input, "all", 0); }))
      << "an agreed Error";
}

TEST(CommunicatorTest, RowsSplitOverRanks) {
  const Communicator& comm = world();
  std::mt19937_64 random(1);
  std::normal_distribution<float> normal;
  constexpr std::int64_t inputs = 50;
  for (const std::int64_t outputs : {1, 2, 5, 64, 301}) {
    std::vector<float> weight(static_cast<std::size_t>(inputs * outputs));
    std::vector<float> bias(static_cast<std::size_t>(outputs));
    std::vector<float> x(inputs);
    for (std::vector<float>* values : {&weight, &bias, &x}) {
      for (float& value : *values) value = normal(random);
    }
    const Linear linear = {weight, bias, inputs, outputs};
    ThreadPool pool(2);
    std::vector<float> alone(bias.size());
    std::vector<float> together(bias.size(), -1.0F);
    apply_linear_row(pool, linear, x.data(), 0, outputs, alone.data());
    apply_linear_row_split(comm, pool, linear, x.data(), together);
    EXPECT_TRUE(std::memcmp(alone.data(), together.data(), alone.size() * sizeof(float)) == 0)
        << "a row split over ranks has other bits";

    // Items of three numbers each.
    std::vector<float> items(static_cast<std::size_t>(outputs * 3), -1.0F);
    std::int64_t covered = 0;
    for (int r = 0; r < comm.size(); ++r) {
      const Part part = part_of(outputs, r, comm.size());
      EXPECT_TRUE(part.begin == covered && part.end >= part.begin) << "parts are not consecutive";
      covered = part.end;
      if (r != comm.rank()) continue;
      for (std::int64_t i = 3 * part.begin; i < 3 * part.end; ++i) {
        items[static_cast<std::size_t>(i)] = static_cast<float>(i);
      }
    }
    EXPECT_EQ(covered, outputs) << "parts do not cover all outputs";
    gather_parts(comm, outputs, 3, items);
    std::vector<float> expected(items.size());
    std::iota(expected.begin(), expected.end(), 0.0F);
    EXPECT_TRUE(items == expected) << "gather_parts";
  }
}

}  // namespace
}  // namespace powerprefill
