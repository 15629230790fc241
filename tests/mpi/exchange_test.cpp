// The exchange of KV blocks and the attention that advances with it, on any number of ranks.
#include <fmt/format.h>

#include <chrono>
#include <cmath>
#include <cstring>
#include <random>
#include <thread>

#include "kv/kv_exchange.hpp"
#include "layers/block_attention.hpp"
#include "math/rows/convert.hpp"
#include "support/attention_reference.hpp"
#include "support/mpi_test.hpp"

namespace powerprefill {
namespace {

using test::world;

// What byte `at` of a block's keys (part 0) or values (part 1) is in some layer.
std::byte content(std::int64_t layer, std::int64_t block, int part, std::int64_t at) {
  std::uint64_t x = static_cast<std::uint64_t>(((layer * 100000 + block) * 2 + part) * 65536 + at);
  x = (x ^ (x >> 31)) * 0x7FB5D329728EA185U;
  x = (x ^ (x >> 27)) * 0x81DADEF4BC2DD44DU;
  return static_cast<std::byte>(x >> 56);
}

void fill(std::span<std::byte> bytes, std::int64_t layer, std::int64_t block, int part) {
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    bytes[i] = content(layer, block, part, static_cast<std::int64_t>(i));
  }
}

bool holds(const KvBlockView& view, std::int64_t bytes, std::int64_t layer, std::int64_t block) {
  for (std::int64_t i = 0; i < bytes; ++i) {
    if (view.key[i] != content(layer, block, 0, i)) return false;
    if (view.value[i] != content(layer, block, 1, i)) return false;
  }
  return true;
}

struct Job {
  PatternSpec spec;
  std::int64_t tokens;
  KvShape shape;
  int late_rank = -1;  // starts each layer after the others
};

std::string text_of(const Job& job) {
  return fmt::format("{} window {} sink {}, {} tokens, block {}, late rank {}", job.spec.name,
                     job.spec.window, job.spec.sink, job.tokens, job.shape.block, job.late_rank);
}

KvBlocks local_blocks(const Partition& partition, int rank, std::int64_t layer,
                      const KvShape& shape) {
  KvBlocks blocks(shape, partition.blocks_of(rank));
  for (const BlockRange& range : partition.ranges_of(rank)) {
    for (std::int64_t b = range.first.value; b < range.end(); ++b) {
      const std::int64_t at = partition.local(GlobalBlock{b}).value;
      fill(blocks.span(at, 1).key, layer, b, 0);
      fill(blocks.span(at, 1).value, layer, b, 1);
    }
  }
  return blocks;
}

// Bytes of the buffers: a few slots of the largest share, and the sink blocks.
std::int64_t planned_buffer_bytes(const ExchangePlan& plan, std::int64_t block_bytes) {
  std::int64_t largest = 0;
  for (const Share& share : plan.receives) largest = std::max(largest, share.blocks());
  const auto slots = std::min(kSharesInFlight, plan.receives.size());
  std::int64_t blocks = static_cast<std::int64_t>(slots) * largest;
  for (const SinkTree& tree : plan.sinks) blocks += tree.parent >= 0 ? tree.blocks.blocks() : 0;
  return blocks * 2 * block_bytes;
}

// Calls visit(block) for all blocks of the ranges.
template <typename Visit>
void for_each_block(const std::vector<BlockRange>& ranges, const Visit& visit) {
  for (const BlockRange& range : ranges) {
    for (std::int64_t b = range.first.value; b < range.end(); ++b) visit(b);
  }
}

void run_layer(const Job& job, const Partition& partition, const ExchangePlan& plan,
               KvExchange& exchange, KvBlocks& local, std::int64_t layer) {
  const int rank = world().rank();
  const std::int64_t bytes = job.shape.block_bytes();
  const auto what = [&](std::int64_t block, const char* problem) {
    return fmt::format("{}: layer {}: block {} {}", text_of(job), layer, block, problem);
  };
  if (job.late_rank == rank) std::this_thread::sleep_for(std::chrono::milliseconds(20));
  exchange.start(local);
  for (std::int64_t b = 0; b < partition.end_block(); ++b) {
    const bool is_own = partition.owner(GlobalBlock{b}) == rank;
    EXPECT_EQ(exchange.find(b) != nullptr, is_own) << what(b, "is (not) there at the start");
  }
  const auto check = [&](std::int64_t b) {
    const KvBlockView* view = exchange.find(b);
    EXPECT_NE(view, nullptr) << what(b, "is missing");
    if (view == nullptr) return;
    EXPECT_TRUE(holds(*view, bytes, layer, b)) << what(b, "is wrong");
  };
  const auto is_gone = [&](std::int64_t b) {
    EXPECT_EQ(exchange.find(b), nullptr) << what(b, "is still there");
  };
  const auto arrive = [&](const std::vector<BlockRange>& ranges) {
    while (exchange.find(ranges.back().first.value) == nullptr) {
      if (layer % 3 == 0) {
        exchange.wait_for_arrival();
      } else {
        exchange.poll();
      }
    }
    for_each_block(ranges, check);
  };
  // Layers 0 and 1 use the shares in order, in two ways; in layer 2 finish() alone has to do.
  if (layer % 3 != 2) {
    for (std::size_t i = 0; i < plan.receives.size(); ++i) {
      const Share& share = plan.receives[i];
      arrive(share.ranges);
      for (std::size_t k = i + kSharesInFlight; k < plan.receives.size(); ++k) {
        for_each_block(plan.receives[k].ranges, is_gone);  // not asked for yet
      }
      exchange.release_above(share.lowest());  // still needed
      for_each_block(share.ranges, check);
      exchange.release_above(share.lowest() - 1);
      for_each_block(share.ranges, is_gone);
    }
    for (const SinkTree& tree : plan.sinks) arrive(tree.blocks.ranges);
  }
  exchange.finish();
  for (const Share& share : plan.receives) for_each_block(share.ranges, is_gone);
  for (const SinkTree& tree : plan.sinks) for_each_block(tree.blocks.ranges, check);
  for_each_block(partition.ranges_of(rank), check);
}

void run_job_on(const Job& job, const Partition& partition) {
  const int rank = world().rank();
  const auto pattern = make_pattern(job.spec);
  const ExchangePlan plan = make_exchange_plan(*pattern, partition, rank);
  KvExchange exchange(world(), plan, partition, job.shape);
  const std::int64_t bytes_per_layer = plan.received_blocks() * 2 * job.shape.block_bytes();
  EXPECT_EQ(exchange.buffer_bytes(), planned_buffer_bytes(plan, job.shape.block_bytes()))
      << text_of(job);
  for (std::int64_t layer = 0; layer < 3; ++layer) {
    KvBlocks local = local_blocks(partition, rank, layer, job.shape);
    run_layer(job, partition, plan, exchange, local, layer);
    EXPECT_EQ(exchange.bytes_received(), (layer + 1) * bytes_per_layer)
        << text_of(job) << ": layer " << layer;
  }
}

void run_job(const Job& job) {
  const int ranks = world().size();
  run_job_on(job, Partition::contiguous(job.tokens, job.shape.block, ranks, 1));
  run_job_on(job, Partition::zigzag(job.tokens, job.shape.block, ranks, 1));
}

std::vector<PatternSpec> patterns() {
  return {{.name = "power", .window = 5, .sink = 1},   {.name = "power", .window = 1, .sink = 0},
          {.name = "power", .window = 3, .sink = 10},  {.name = "sliding", .window = 2, .sink = 3},
          {.name = "sliding", .window = 7, .sink = 0}, {.name = "full"}};
}

TEST(ExchangeTest, BlocksArrive) {
  const int ranks = world().size();
  for (const PatternSpec& spec : patterns()) {
    for (const std::int64_t blocks : {1, 2, ranks, 2 * ranks + 1, 8 * ranks, 40}) {
      for (const std::int64_t block : {1, 6, 16}) {
        const std::int64_t tokens = blocks * block - (blocks % 2 == 0 ? block / 2 : 0);
        run_job({spec, tokens, {block, 2, 8, DType::bf16}, -1});
      }
    }
  }
}

// Blocks large enough that messages do not fit into MPI's eager buffers.
TEST(ExchangeTest, LargeBlocksArrive) {
  for (const PatternSpec& spec : patterns()) {
    run_job({spec, 12 * 128, {128, 2, 64, DType::f32}, -1});
  }
}

// The sink's blocks on several ranks: a rank may get two trees from the same parent, which itself
// gets them from different ranks, in any order. Each rank is late in turn.
TEST(ExchangeTest, SinksOfSeveralRanks) {
  const int ranks = world().size();
  for (const std::int64_t blocks_per_rank : {1, 2}) {
    for (const std::int64_t sink : {2, 3, 4, 5, 2 * ranks}) {
      for (int late = -1; late < ranks; ++late) {
        run_job({{.name = "sliding", .window = 1, .sink = sink},
                 4 * blocks_per_rank * ranks,
                 {4, 1, 8, DType::f32},
                 late});
      }
    }
  }
}

// Layers that alternate between two patterns, with an exchange each on the same communicator.
TEST(ExchangeTest, TwoPatternsInTurn) {
  const int rank = world().rank();
  for (int late = -1; late < world().size(); ++late) {
    const Job power = {{.name = "power", .window = 2, .sink = 3}, 205, {8, 2, 4, DType::f16}, late};
    const Job full = {{.name = "full"}, 205, {8, 2, 4, DType::f16}, late};
    const Partition partition = Partition::contiguous(205, 8, world().size(), 1);
    const ExchangePlan power_plan = make_exchange_plan(*make_pattern(power.spec), partition, rank);
    const ExchangePlan full_plan = make_exchange_plan(*make_pattern(full.spec), partition, rank);
    KvExchange power_exchange(world(), power_plan, partition, power.shape);
    KvExchange full_exchange(world(), full_plan, partition, full.shape);
    for (std::int64_t layer = 0; layer < 6; ++layer) {
      KvBlocks local = local_blocks(partition, rank, layer, power.shape);
      const bool is_full = layer % 3 == 1;
      run_layer(is_full ? full : power, partition, is_full ? full_plan : power_plan,
                is_full ? full_exchange : power_exchange, local, layer);
    }
  }
}

// A layer's queries, keys and values of all tokens, the same on every rank.
struct Layer {
  Layer(std::int64_t tokens, std::int64_t heads, const KvShape& shape, std::uint64_t seed)
      : q(values(tokens * heads * shape.head_dim, seed)),
        k(values(tokens * shape.row_elements(), seed + 1)),
        v(values(tokens * shape.row_elements(), seed + 2)) {
    for (std::vector<float>* rows : {&k, &v}) {  // attention sees what the cache's dtype holds
      std::vector<std::byte> bits(rows->size() * bytes_of(shape.dtype));
      round_to(shape.dtype, *rows, bits.data());
      widen(shape.dtype, bits.data(), *rows);
    }
  }
  static std::vector<float> values(std::int64_t count, std::uint64_t seed) {
    std::mt19937_64 random(seed);
    std::normal_distribution<float> normal;
    std::vector<float> values(static_cast<std::size_t>(count));
    for (float& value : values) value = normal(random);
    return values;
  }
  std::vector<float> q;  // (T, H, D)
  std::vector<float> k;  // (T, G, D)
  std::vector<float> v;  // (T, G, D)
};

// Attention of one layer as the engine does it; the results of this rank's tokens, (tokens, H, D).
std::vector<float> attend(const mpi::Communicator& comm, const Pattern& pattern,
                          const Partition& partition, std::int64_t group_heads,
                          const KvShape& shape, const Layer& layer, int threads) {
  const ExchangePlan plan = make_exchange_plan(pattern, partition, comm.rank());
  KvExchange exchange(comm, plan, partition, shape);
  BlockAttention attention(partition, comm.rank(), {group_heads, shape.block, shape.head_dim},
                           shape, threads);
  ThreadPool pool(threads);
  KvBlocks local(shape, partition.blocks_of(comm.rank()));
  const std::int64_t heads = group_heads * shape.kv_heads;
  const std::int64_t d = shape.head_dim;
  std::int64_t pairs = 0;
  std::int64_t token_pairs = 0;
  const auto for_tokens = [&](const auto& visit) {
    for (const BlockRange& range : partition.ranges_of(comm.rank())) {
      for (std::int64_t b = range.first.value; b < range.end(); ++b) {
        const std::int64_t first = partition.first_token(GlobalBlock{b});
        for (std::int64_t t = first; t < partition.end_token(GlobalBlock{b}); ++t) {
          visit(partition.local(GlobalBlock{b}).value, t - first, t);
        }
      }
    }
  };
  for_tokens([&](std::int64_t block, std::int64_t row, std::int64_t token) {
    const auto at = static_cast<std::size_t>(token * shape.row_elements());
    const auto count = static_cast<std::size_t>(shape.row_elements());
    round_to(shape.dtype, std::span(layer.k).subspan(at, count),
             local.span(block, 1).key.data() + row * shape.row_bytes());
    round_to(shape.dtype, std::span(layer.v).subspan(at, count),
             local.span(block, 1).value.data() + row * shape.row_bytes());
    for (std::int64_t h = 0; h < heads; ++h) {
      std::copy_n(layer.q.begin() + (token * heads + h) * d, d,
                  static_cast<float*>(attention.query(h, block, row)));
    }
    for (std::int64_t key = 0; key <= token; ++key) {
      token_pairs += pattern.attends(token / shape.block, key / shape.block) ? 1 : 0;
    }
    if (row == 0) pairs += std::ssize(pattern.key_blocks(token / shape.block));
  });

  exchange.start(local);
  const BlockSelection selection = BlockSelection::by_pattern(pattern, partition, comm.rank());
  attention.begin(pool, selection);
  for (;;) {
    attention.advance(
        pool, [&](std::int64_t b) { return exchange.find(b); }, [&] { exchange.poll(); });
    exchange.release_above(attention.highest_pending());
    if (attention.is_done()) break;
    if (!exchange.take_arrivals()) exchange.wait_for_arrival();
  }
  exchange.finish();
  EXPECT_EQ(attention.pairs(), pairs);
  EXPECT_EQ(attention.token_pairs(), token_pairs);
  std::vector<float> out;
  for_tokens([&](std::int64_t block, std::int64_t row, std::int64_t) {
    for (std::int64_t h = 0; h < heads; ++h) {
      out.resize(out.size() + static_cast<std::size_t>(d));
      attention.read_result(h, block, row, out.data() + out.size() - d);
    }
  });
  return out;
}

// The distributed result is near the reference, and has the bits of one rank alone.
TEST(ExchangeTest, AttentionIsTheSameOnAnyNumberOfRanks) {
  const mpi::Communicator self = mpi::Communicator::duplicate(MPI_COMM_SELF);
  const int rank = world().rank();
  use_one_blas_thread();
  for (const DType dtype : {DType::f32, DType::bf16, DType::f16}) {
    for (const PatternSpec& spec : patterns()) {
      for (const std::int64_t tokens : {7, 150, 200}) {
        const KvShape shape = {16, 2, 16, dtype};
        const std::int64_t group_heads = 3;
        const std::int64_t width = shape.kv_heads * group_heads * shape.head_dim;
        const Layer layer(tokens, shape.kv_heads * group_heads, shape, 11);
        const auto pattern = make_pattern(spec);
        const Partition split = Partition::contiguous(tokens, shape.block, world().size(), 1);
        const Partition whole = Partition::contiguous(tokens, shape.block, 1, 1);
        const std::vector<float> alone =
            attend(self, *pattern, whole, group_heads, shape, layer, 1);
        const std::vector<float> together =
            attend(world(), *pattern, split, group_heads, shape, layer, 2);
        const auto& ranges = split.ranges_of(rank);
        const std::int64_t first =
            ranges.empty() ? 0 : split.first_token(ranges.front().first) * width;
        const bool is_same = together.empty() || std::memcmp(alone.data() + first, together.data(),
                                                             together.size() * sizeof(float)) == 0;
        EXPECT_TRUE(is_same) << fmt::format("{} {}: {} tokens: the bits differ from one rank's",
                                            spec.name, name_of(dtype), tokens);
        const ReferenceResult expected = attention_reference(
            {tokens, shape.kv_heads * group_heads, shape.kv_heads, shape.head_dim, shape.block},
            layer.q, layer.k, layer.v,
            [&](std::int64_t i, std::int64_t j) { return pattern->attends(i, j); });
        bool is_near = true;
        for (std::size_t i = 0; i < together.size(); ++i) {
          const std::size_t at = static_cast<std::size_t>(first) + i;
          const double difference = static_cast<double>(together[i]) - expected.out[at];
          is_near = is_near && std::fabs(difference) <= expected.bound[at];
        }
        EXPECT_TRUE(is_near) << fmt::format("{} {}: {} tokens: far from the reference", spec.name,
                                            name_of(dtype), tokens);
      }
    }
  }
}

}  // namespace
}  // namespace powerprefill
