// What a prefill checks, and the file that it writes to: a new one, or one that it goes on with.
#include <fmt/format.h>

#include <algorithm>
#include <filesystem>

#include "base/checked.hpp"
#include "prefill/prefill_job.hpp"
#include "run/cache_identity.hpp"

namespace powerprefill {

namespace {

constexpr std::int64_t kLargestReserve = std::int64_t{1} << 36;

}  // namespace

// Everything that can be known to be wrong before the weights are loaded.
void PrefillJob::check_options() {
  input_.check();
  if (options_.reserve < 0 || options_.reserve > kLargestReserve) {
    throw Error(ErrorCode::usage,
                fmt::format("--reserve {}; choose 0 to {}", options_.reserve, kLargestReserve));
  }
  std::error_code unclear;  // what cannot be looked at is refused with a reason when it is made
  const bool exists = world_.is_root() && std::filesystem::exists(options_.out, unclear);
  if (exists && !options_.force && !options_.resume) {
    throw Error(ErrorCode::usage,
                fmt::format("{} exists; add --force to replace it, or --resume to go on with it",
                            options_.out.string()));
  }
  if (world_.is_root() && !(exists && options_.resume)) {
    CacheWriter::require_makeable(options_.out);
  }
  if (options_.force && options_.resume) {
    throw Error(ErrorCode::usage,
                "--force replaces the output, --resume goes on with it: choose one");
  }
  if (options_.chunk_tokens < 0 || options_.chunk_tokens > kLargestReserve) {
    throw Error(ErrorCode::usage, fmt::format("--chunk-tokens {}; choose 1 to {}",
                                              options_.chunk_tokens, kLargestReserve));
  }
  if (world_.is_root() && !options_.trace.empty()) trace_file_ = OutputFile(options_.trace);
}

// What can be known to be wrong with the files before the weights are loaded.
void PrefillJob::check_output() {
  if (is_resumable()) {
    const CacheReader file = CacheReader::open_shared(world_, options_.out);
    world_.agree([&] {
      require_resumable(file);
      if (world_.is_root()) CacheWriter::require_writable(options_.out);
    });
    return;
  }
  if (!options_.prefix.empty()) {
    const CacheReader file = CacheReader::open_shared(world_, options_.prefix);
    world_.agree([&] { reusable_tokens(file); });
  }
  CacheWriter::require_room(world_, options_.out, header(), options_.force || options_.resume);
}

void PrefillJob::open_cache() {
  if (is_resumable()) {
    resume();
  } else {
    create();
  }
  for (const std::string& text : writer_->warnings()) note(text);
}

// Of a new file.
CacheHeader PrefillJob::header() const {
  const std::int64_t block = kv_shape_.block;
  CacheHeader header = header_for(model_, options_.run.schedule, kv_shape_.dtype);
  header.saves_hidden = options_.save_hidden;
  header.capacity = round_up(prompt_tokens(), block) + round_up(options_.reserve, block);
  return header;
}

// Whether the output has a commit to go on from. A file without one has nothing to keep.
bool PrefillJob::is_resumable() const {
  std::int64_t resumable = 0;
  world_.agree([&] {
    std::error_code unclear;
    if (!options_.resume || !world_.is_root() || !std::filesystem::exists(options_.out, unclear))
      return;
    resumable = CacheReader::open_if_committed(options_.out) ? 1 : 0;
  });
  return world_.max(resumable) == 1;
}

void PrefillJob::require_resumable(const CacheReader& file) const {
  const CacheHeader run = header();
  require_same_model(options_.out, file.header(), run);
  require_same_run(options_.out, file.header(), run, model_.options.allow_mixed_numerics);
  const std::int64_t common = common_tokens(file.token_ids(), options_.tokens);
  if (common == std::min(file.tokens(), prompt_tokens())) return;
  throw Error(
      ErrorCode::cache,
      fmt::format("{} does not fit: its token {} is {}, in the prompt it is {}; resume "
                  "with the prompt that it was made from",
                  options_.out.string(), common, file.token_ids()[static_cast<std::size_t>(common)],
                  options_.tokens[static_cast<std::size_t>(common)]));
}

// How many tokens of the prefix's file the prompt begins with, whole blocks of them.
std::int64_t PrefillJob::reusable_tokens(const CacheReader& file) const {
  const CacheHeader run = header();
  require_same_model(options_.prefix, file.header(), run);
  require_same_run(options_.prefix, file.header(), run, model_.options.allow_mixed_numerics);
  const auto ranges = file.decoded_ranges();
  const std::int64_t prefilled = ranges.empty() ? file.tokens() : ranges.front().first;
  // One token at least is computed: the logits after the prompt are not in the other file.
  const std::int64_t common =
      std::min({common_tokens(file.token_ids(), options_.tokens), prefilled, prompt_tokens() - 1});
  return common / kv_shape_.block * kv_shape_.block;
}

void PrefillJob::resume() {
  // Before the file is opened for writing, which may replace it by a larger one; and again under
  // the writer's lock.
  {
    const CacheReader file = CacheReader::open_shared(world_, options_.out);
    world_.agree([&] { require_resumable(file); });
  }
  writer_ = CacheWriter::open(world_, options_.out, prompt_tokens());
  past_ = CacheReader::open_shared(world_, options_.out);
  world_.agree([&] { require_resumable(*past_); });
  done_ = std::min(past_->tokens(), prompt_tokens());
  report_.resumed_from = done_;
}

void PrefillJob::create() {
  CachePrefix prefix;
  if (!options_.prefix.empty()) {
    past_ = CacheReader::open_shared(world_, options_.prefix);
    world_.agree([&] { prefix = {&*past_, reusable_tokens(*past_)}; });
  }
  // --resume replaces a file in which nothing was committed.
  writer_ = CacheWriter::create(world_, options_.out, header(), options_.force || options_.resume,
                                prefix);
  done_ = prefix.tokens;
  report_.reused_tokens = done_;
}

}  // namespace powerprefill
