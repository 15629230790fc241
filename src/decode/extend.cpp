// New input behind a cached context: prefilled, in chunks into the file or at once into memory.
#include <fmt/format.h>

#include <algorithm>

#include "decode/decoder_state.hpp"
#include "plan/chunks.hpp"
#include "plan/memory_plan.hpp"
#include "prefill/cache_output.hpp"

namespace powerprefill {

namespace {

// Of the memory that is left when the weights are loaded.
constexpr double kChunkShare = 0.5;

Error stopped(std::int64_t read, std::int64_t all, const char* what_next) {
  return Error::agreed(
      ErrorCode::interrupted,
      fmt::format("stopped by a signal with {} of {} new tokens read{}", read, all, what_next), -1);
}

// Every rank keeps all rows: it will attend to them with the heads that it decodes.
class MemoryOutput : public ChunkOutput {
 public:
  MemoryOutput(const mpi::Communicator& world, const Partition& partition, PastBlocks& past)
      : world_(world), partition_(partition), past_(past) {}

  // Collective.
  void take(std::int64_t layer, const LocalRows&, KvBlocks& kv) override {
    const auto row_bytes = static_cast<std::size_t>(past_.shape().row_bytes());
    for (const Partition::Piece& piece : partition_.pieces()) {
      const GlobalBlock first = piece.blocks.first;
      const std::int64_t begin = partition_.first_new_token(first);
      const std::int64_t end = partition_.end_token(GlobalBlock{piece.blocks.end() - 1});
      const auto bytes = static_cast<std::size_t>(end - begin) * row_bytes;
      const auto skipped =
          static_cast<std::size_t>(begin - partition_.first_token(first)) * row_bytes;
      for (const int part : {0, 1}) {
        rows_[part].resize(bytes);
        if (piece.owner == world_.rank()) {
          const KvSpan span =
              kv.span(partition_.local(first).value, piece.blocks.count).subspan(skipped, bytes);
          std::copy_n((part == 0 ? span.key : span.value).begin(), bytes, rows_[part].begin());
        }
        world_.broadcast(rows_[part], piece.owner);
      }
      past_.append(layer, rows_[0], rows_[1]);
    }
  }
  void wait(const KvBlocks&) override {}

 private:
  const mpi::Communicator& world_;
  const Partition& partition_;
  PastBlocks& past_;
  std::vector<std::byte> rows_[2];
};

}  // namespace

// The chunk [tokens, end) of `ids`.
void Decoder::State::start_chunk(std::int64_t end) {
  const ChunkContext context = {.model = model,
                                .schedule = schedule,
                                .kv_shape = past->shape(),
                                .zigzag = takes_zigzag(BlockPartition::automatic, schedule),
                                .zones = zones};
  world.agree([&] {
    chunk.emplace(context, std::span(ids).first(static_cast<std::size_t>(end)), tokens,
                  past->source());
  });
}

bool Decoder::State::run_chunk(ChunkOutput& output, StopPoll& poll) {
  poll.begin_chunk();
  return chunk->run(&output,
                    [&](std::int64_t done) { return poll.goes_on(done, model.config.layers); });
}

void Decoder::State::finish_chunk() {
  tokens = chunk->partition().tokens().end;
  Chunk::Last last = chunk->last();
  logits = std::move(last.logits);
  last_hidden = std::move(last.hidden);
}

// Forgets the chunk in flight, whose rows the writer may still read, and the rest of what was to be
// appended. Returns how many tokens that was.
std::int64_t Decoder::State::drop_chunk() {
  world.agree([&] {
    if (writer) writer->discard();
  });
  chunk.reset();
  const auto left = static_cast<std::int64_t>(ids.size()) - tokens;
  ids.resize(static_cast<std::size_t>(tokens));
  past->keep_rows(fed());
  return left;
}

void Decoder::State::interrupt(std::int64_t new_tokens) {
  throw stopped(new_tokens - drop_chunk(), new_tokens,
                writer ? " and saved; go on with the rest" : "");
}

void Decoder::State::extend_file(std::span<const std::int32_t> more, StopPoll& poll) {
  ids.insert(ids.end(), more.begin(), more.end());
  const auto end = static_cast<std::int64_t>(ids.size());
  const std::int64_t chunk_tokens =
      world.min(default_chunk(model.config, past->shape(),
                              {.tokens = end - tokens,
                               .prompt = end,
                               .ranks = world.size(),
                               .threads = model.pool->threads(),
                               .zigzag = takes_zigzag(BlockPartition::automatic, schedule),
                               .saves_hidden = past->reader().header().saves_hidden,
                               .operand_bytes = operand_bytes(model.compute)},
                              model.share_of_memory(kChunkShare)));
  while (tokens < end) {
    const std::int64_t next = end_of_chunk(tokens, chunk_tokens, schedule.block, end);
    start_chunk(next);
    make_room(next);
    CacheOutput output(*writer);
    if (!run_chunk(output, poll)) interrupt(std::ssize(more));
    output.finish(*chunk);
    finish_chunk();
    writer->commit(tokens, std::span(ids).first(static_cast<std::size_t>(tokens)), logits,
                   last_hidden);
    chunk.reset();
    reopen();
    if (tokens < end && poll.is_over()) interrupt(std::ssize(more));
  }
}

void Decoder::State::extend_memory(std::span<const std::int32_t> more, StopPoll& poll) {
  ids.insert(ids.end(), more.begin(), more.end());
  // The thread that reads the past reads rows of earlier extensions while those of this one come.
  world.agree([&] { past->reserve_rows(fed() + std::ssize(more)); });
  start_chunk(std::ssize(ids));
  MemoryOutput output(world, chunk->partition(), *past);
  if (!run_chunk(output, poll)) interrupt(std::ssize(more));
  finish_chunk();
  chunk.reset();
}

void Decoder::State::extend(std::span<const std::int32_t> more, StopPoll& poll) {
  if (writer) {
    extend_file(more, poll);
  } else if (stepped == 0) {
    extend_memory(more, poll);
  } else {
    for (std::size_t i = 0; i < more.size(); ++i) {
      if (poll.is_over()) throw stopped(static_cast<std::int64_t>(i), std::ssize(more), "");
      step(more[i]);
    }
  }
}

}  // namespace powerprefill
