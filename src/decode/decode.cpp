#include "powerprefill/decode.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "base/zones.hpp"
#include "decode/append_rows.hpp"
#include "decode/decoder_state.hpp"
#include "mpi/session.hpp"
#include "plan/memory_plan.hpp"
#include "powerprefill/prefill.hpp"
#include "prefill/file_sink.hpp"
#include "run/cache_identity.hpp"
#include "run/unagreed_failure.hpp"

namespace powerprefill {

namespace {

// Of the memory that is left when the weights are loaded, for blocks of the cache.
constexpr double kBlockShare = 0.25;
constexpr double kChunkShare = 0.5;

Error stopped(std::int64_t read, std::int64_t all, const char* what_next) {
  return Error::agreed(
      ErrorCode::interrupted,
      fmt::format("stopped by a signal with {} of {} new tokens read{}", read, all, what_next), -1);
}

}  // namespace

// What can be known to be wrong before the weights are loaded.
void Decoder::State::require_fit(const CacheHeader& header) const {
  CacheHeader own = header_for(model, schedule_from_json(header.schedule), header.dtype);
  require_same_model(path, header, own);
  const std::string& problem = model.config.end_tokens_problem;
  if (!problem.empty()) throw Error(ErrorCode::input, problem);
}

void Decoder::State::open(CacheReader reader, bool append, bool allow_mixed) {
  const OutputRange heads = part_of(reader.header().num_kv_heads, world.rank(), world.size());
  past.emplace(std::move(reader), heads, model.share_of_memory(kBlockShare));
  const CacheHeader& header = past->reader().header();
  schedule = schedule_from_json(header.schedule);
  CacheHeader own = header_for(model, schedule, header.dtype);
  own.saves_hidden = header.saves_hidden;
  require_same_model(path, header, own);
  if (schedule.block != header.block_tokens ||
      static_cast<std::int64_t>(schedule.layers.size()) != header.num_layers) {
    throw Error(ErrorCode::cache,
                fmt::format("{}: its schedule does not fit its shape; the file is "
                            "damaged, run the prefill again",
                            path.string()));
  }
  if (append) require_same_run(path, header, own, allow_mixed);
  for (const PatternSpec& spec : schedule.layers) patterns.push_back(make_pattern(spec));
  tokens = past->file_tokens();
  ids = past->reader().token_ids();
  logits = past->reader().logits();
  last_hidden = past->reader().hidden();
  frequencies = rope_frequencies(model.config);
  const ModelConfig& c = model.config;
  hidden.resize(static_cast<std::size_t>(c.hidden));
  normed.resize(hidden.size());
  update.resize(hidden.size());
  projected.resize(static_cast<std::size_t>((c.heads + 2 * c.kv_heads) * c.head_dim));
  attended.resize(static_cast<std::size_t>(c.heads * c.head_dim));
  gate.resize(static_cast<std::size_t>(c.feed_forward));
  up.resize(static_cast<std::size_t>(c.feed_forward));
}

void Decoder::State::require_known(std::int32_t token) const {
  if (token >= 0 && token < model.config.vocabulary) return;
  throw Error(ErrorCode::input, fmt::format("token id {} is outside the vocabulary of {}", token,
                                            model.config.vocabulary));
}

// Everything is in the file, and the rows since the last commit are read from there again.
void Decoder::State::reopen() {
  CacheReader committed = writer->read_back();
  world.agree([&] { past->reopen(std::move(committed)); });
  new_hidden.clear();
  stepped = 0;
}

// A file that is full is replaced by a larger one.
void Decoder::State::make_room(std::int64_t needed) {
  if (needed <= writer->header().capacity) return;
  const std::int64_t committed = writer->committed();
  writer.reset();
  writer = CacheWriter::open(world, path, needed);
  if (writer->committed() == committed) return;
  throw Error::agreed(
      ErrorCode::cache,
      fmt::format("{} was changed by another writer; start again from what it holds",
                  path.string()),
      0);
}

// The chunk [tokens, end) of `ids`.
void Decoder::State::start_chunk(std::int64_t end) {
  const Chunk::Context context = {
      world, model, schedule, past->shape(), takes_zigzag("auto", schedule), zones};
  world.agree([&] {
    chunk.emplace(context, std::span(ids).first(static_cast<std::size_t>(end)), tokens,
                  past->source());
  });
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
                               .zigzag = takes_zigzag("auto", schedule),
                               .saves_hidden = past->reader().header().saves_hidden,
                               .operand_bytes = operand_bytes(model.compute)},
                              model.share_of_memory(kChunkShare)));
  while (tokens < end) {
    const std::int64_t next = end_of_chunk(tokens, chunk_tokens, schedule.block, end);
    start_chunk(next);
    make_room(next);
    poll.begin_chunk();
    const auto goes_on = [&](std::int64_t done) { return poll.goes_on(done, model.config.layers); };
    if (!FileSink(*writer).run(*chunk, goes_on)) interrupt(std::ssize(more));
    finish_chunk();
    writer->commit(tokens, std::span(ids).first(static_cast<std::size_t>(tokens)), logits,
                   last_hidden);
    chunk.reset();
    reopen();
    if (tokens < end && poll.is_over()) interrupt(std::ssize(more));
  }
}

// Every rank keeps all rows: it will attend to them with the heads that it decodes.
void Decoder::State::extend_memory(std::span<const std::int32_t> more, StopPoll& poll) {
  ids.insert(ids.end(), more.begin(), more.end());
  // The thread that reads the past reads rows of earlier extensions while those of this one come.
  world.agree([&] { past->reserve_rows(fed() + std::ssize(more)); });
  start_chunk(static_cast<std::int64_t>(ids.size()));
  const Partition& partition = chunk->partition();
  const auto row_bytes = static_cast<std::size_t>(past->shape().row_bytes());
  std::vector<std::byte> rows[2];
  const auto take = [&](std::int64_t layer, const LocalRows&, KvBlocks& kv) {
    for (const Partition::Piece& piece : partition.pieces()) {
      const std::int64_t begin = partition.first_new_token(piece.blocks.first);
      const std::int64_t end = partition.end_token(GlobalBlock{piece.blocks.end() - 1});
      const auto bytes = static_cast<std::size_t>(end - begin) * row_bytes;
      for (const int part : {0, 1}) {
        rows[part].resize(bytes);
        if (piece.owner == world.rank()) {
          const std::int64_t local = partition.local(piece.blocks.first).value;
          const auto all =
              part == 0 ? kv.keys(local, piece.blocks.count) : kv.values(local, piece.blocks.count);
          const auto skipped =
              static_cast<std::size_t>(begin - partition.first_token(piece.blocks.first)) *
              row_bytes;
          std::copy_n(all.begin() + static_cast<std::ptrdiff_t>(skipped), bytes,
                      rows[part].begin());
        }
        world.broadcast(rows[part], piece.owner);
      }
      past->append(layer, rows[0], rows[1]);
    }
  };
  poll.begin_chunk();
  const auto goes_on = [&](std::int64_t done) { return poll.goes_on(done, model.config.layers); };
  if (!chunk->run({take, [](const KvBlocks&) {}, goes_on})) interrupt(std::ssize(more));
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

Decoder::Decoder(Session& session, const std::filesystem::path& cache, const ModelOptions& model,
                 bool append)
    : state_(std::make_unique<State>(session.mpi().world())) {
  mpi::Communicator& world = state_->world;
  state_->path = cache;
  ModelOptions options = model;
  const CacheHeader header = CacheReader::open_shared(world, cache).header();
  world.agree([&] {
    if (append && world.is_root()) CacheWriter::require_writable(cache);
  });
  if (options.compute == "auto") options.compute = header.compute;
  state_->model = prepare_model(session.mpi(), options);
  world.agree([&] { state_->require_fit(header); });
  const double start = seconds_now();
  load_weights(session.mpi(), options, state_->model);
  state_->load_seconds = seconds_now() - start;
  if (append) state_->writer = CacheWriter::open(world, cache, 0);
  CacheReader reader = CacheReader::open_shared(world, cache);
  world.agree([&] { state_->open(std::move(reader), append, model.allow_mixed_numerics); });
}

Decoder::~Decoder() = default;
Decoder::Decoder(Decoder&&) noexcept = default;
Decoder& Decoder::operator=(Decoder&&) noexcept = default;

std::int64_t Decoder::tokens() const {
  return state_->tokens;
}
std::span<const float> Decoder::logits() const {
  return state_->logits;
}
void Decoder::feed(std::int32_t token) {
  state_->step(token);
  ++state_->stepped;
}
void Decoder::extend(std::span<const std::int32_t> tokens,
                     const std::function<bool()>& should_stop) {
  for (const std::int32_t token : tokens) state_->require_known(token);
  if (tokens.empty()) return;
  commit();
  StopPoll poll = StopPoll::make(state_->world, should_stop, PrefillOptions{}.stop_patience);
  leak_on_unagreed_failure(state_->world, state_, [&] {
    try {
      state_->extend(tokens, poll);
    } catch (const Error& error) {  // of the input, say: what was read before stays
      if (error.is_agreed() && error.code() != ErrorCode::interrupted) state_->drop_chunk();
      throw;
    }
  });
}
void Decoder::commit() {
  State& s = *state_;
  if (!s.writer || s.fed() == 0) return;
  s.make_room(s.tokens);
  append_decoded_rows(s.world, *s.past, s.tokens, *s.writer);
  s.world.agree([&] {
    if (!s.new_hidden.empty()) append_hidden_rows(*s.past, s.new_hidden, *s.writer);
  });
  s.writer->commit(s.tokens, s.ids, s.logits, s.last_hidden, RowOrigin::decoded);
  s.reopen();
}
const std::vector<std::int32_t>& Decoder::end_tokens() const {
  return state_->model.config.end_tokens;
}
std::int64_t Decoder::bytes_read() const {
  return state_->past->bytes_read();
}
double Decoder::load_seconds() const {
  return state_->load_seconds;
}
void Decoder::zero_past() {
  state_->past->zero_file_blocks();
}

}  // namespace powerprefill
