#include "powerprefill/decode.hpp"

#include <fmt/format.h>

#include <utility>

#include "base/part.hpp"
#include "decode/append_rows.hpp"
#include "decode/decoder_state.hpp"
#include "layers/row_parallel.hpp"
#include "layers/transformer.hpp"
#include "powerprefill/prefill.hpp"
#include "run/cache_identity.hpp"
#include "run/unagreed_failure.hpp"

namespace powerprefill {

namespace {

// Of the memory that is left when the first decoder opens, for blocks of all their caches.
constexpr double kBlockShare = 0.25;

}  // namespace

// What can be known to be wrong before the weights are loaded.
void Decoder::State::require_fit(const CacheHeader& header) const {
  CacheHeader own = header_for(model, schedule_from_json(header.schedule), header.dtype);
  require_same_model(path, header, own);
  const std::string& problem = model.config.end_tokens_problem;
  if (!problem.empty()) throw Error(ErrorCode::input, problem);
}

void Decoder::State::open(CacheReader reader, bool append) {
  const Part heads = part_of(reader.header().num_kv_heads, world.rank(), world.size());
  if (!model.blocks) {
    model.blocks =
        std::make_shared<BlockBudget>(BlockBudget{.limit = model.share_of_memory(kBlockShare)});
  }
  past.emplace(std::move(reader), heads, model.blocks);
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
  if (append) require_same_run(path, header, own, model.options.allow_mixed_numerics);
  for (const PatternSpec& spec : schedule.layers) patterns.push_back(make_pattern(spec));
  tokens = past->file_tokens();
  ids = past->reader().token_ids();
  logits = past->reader().logits();
  last_hidden = past->reader().hidden();
  row.emplace(model.config.recipe, world, *model.pool);
  attention.emplace(model.config.recipe, *past, *model.pool, heads, patterns);
}

void Decoder::State::require_known(std::int32_t token) const {
  if (token >= 0 && token < model.config.vocabulary) return;
  throw Error(ErrorCode::input, fmt::format("token id {} is outside the vocabulary of {}", token,
                                            model.config.vocabulary));
}

// One token through all layers.
void Decoder::State::step(std::int32_t token) {
  require_known(token);
  row->set_position(tokens);
  Transformer transformer(model.config.recipe, model.weights, *model.pool, *row, zones);
  transformer.embed({&token, 1}, tokens);
  transformer.run(*attention);
  last_hidden.resize(static_cast<std::size_t>(model.config.hidden));
  transformer.final_hidden(tokens, last_hidden);
  ++tokens;
  ++stepped;
  ids.push_back(token);
  if (writer && world.is_root() && past->reader().header().saves_hidden) {
    new_hidden.insert(new_hidden.end(), last_hidden.begin(), last_hidden.end());
  }
  apply_linear_row_split(world, *model.pool, model.weights.output_head(), last_hidden.data(),
                         logits);
}

void Decoder::State::commit() {
  if (!writer || fed() == 0) return;
  make_room(tokens);
  append_decoded_rows(world, *past, tokens, *writer);
  world.agree([&] {
    if (!new_hidden.empty()) append_hidden_rows(*past, new_hidden, *writer);
  });
  writer->commit(tokens, ids, logits, last_hidden, RowOrigin::decoded);
  reopen();
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

Decoder::Decoder(Model& model, const std::filesystem::path& cache, bool append)
    : state_(std::make_unique<State>(model.state(), cache)) {
  mpi::Communicator& world = state_->world;
  // Opened twice: loading the weights takes long, and a writer may have gone on meanwhile.
  const CacheHeader header = CacheReader::open_shared(world, cache).header();
  world.agree([&] {
    if (append && world.is_root()) CacheWriter::require_writable(cache);
    state_->require_fit(header);
  });
  model.load();
  if (append) state_->writer = CacheWriter::open(world, cache, 0);
  CacheReader reader = CacheReader::open_shared(world, cache);
  world.agree([&] { state_->open(std::move(reader), append); });
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
bool Decoder::appends() const {
  return state_->writer.has_value();
}
void Decoder::feed(std::int32_t token) {
  state_->step(token);
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
  state_->commit();
}
std::int64_t Decoder::bytes_read() const {
  return state_->past->bytes_read();
}
void Decoder::zero_past() {
  state_->past->zero_file_blocks();
}

}  // namespace powerprefill
