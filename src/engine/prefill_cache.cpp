// What a prefill checks, and the file that it writes to: a new one, or one that it goes on with.
#include <fmt/format.h>

#include <algorithm>
#include <filesystem>

#include "base/checked.hpp"
#include "engine/cache_identity.hpp"
#include "engine/prefill_job.hpp"

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
  if (options_.force && options_.resume) {
    throw Error(ErrorCode::usage,
                "--force replaces the output, --resume goes on with it: choose one");
  }
  if (options_.chunk_tokens < 0 || options_.chunk_tokens > kLargestReserve) {
    throw Error(ErrorCode::usage, fmt::format("--chunk-tokens {}; choose 1 to {}",
                                              options_.chunk_tokens, kLargestReserve));
  }
}

void PrefillJob::open_cache() {
  CacheHeader header = header_for(model_, options_.schedule, kv_shape_.dtype);
  header.saves_hidden = options_.save_hidden;
  if (is_resumable()) {
    resume(header);
  } else {
    create(std::move(header));
  }
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

void PrefillJob::resume(const CacheHeader& header) {
  writer_ = CacheWriter::open(world_, options_.out, prompt_tokens());
  world_.agree([&] {
    past_ = CacheReader::open(options_.out);
    require_same_model(options_.out, past_->header(), header);
    require_same_run(options_.out, past_->header(), header, options_.model.allow_mixed_numerics);
    const std::int64_t common = common_tokens(past_->token_ids(), options_.tokens);
    if (common < std::min(past_->tokens(), prompt_tokens())) {
      throw Error(ErrorCode::cache,
                  fmt::format("{} does not fit: its token {} is {}, in the prompt it is {}; resume "
                              "with the prompt that it was made from",
                              options_.out.string(), common,
                              past_->token_ids()[static_cast<std::size_t>(common)],
                              options_.tokens[static_cast<std::size_t>(common)]));
    }
  });
  done_ = std::min(past_->tokens(), prompt_tokens());
  report_.resumed_from = done_;
}

void PrefillJob::create(CacheHeader header) {
  const std::int64_t block = kv_shape_.block;
  header.capacity = round_up(prompt_tokens(), block) + round_up(options_.reserve, block);
  CachePrefix prefix;
  world_.agree([&] {
    if (options_.prefix.empty()) return;
    past_ = CacheReader::open(options_.prefix);
    require_same_model(options_.prefix, past_->header(), header);
    require_same_run(options_.prefix, past_->header(), header, options_.model.allow_mixed_numerics);
    const auto ranges = past_->decoded_ranges();
    const std::int64_t prefilled = ranges.empty() ? past_->tokens() : ranges.front().first;
    // One token at least is computed: the logits after the prompt are not in the other file.
    const std::int64_t common = std::min(
        {common_tokens(past_->token_ids(), options_.tokens), prefilled, prompt_tokens() - 1});
    prefix = {&*past_, common / block * block};
  });
  // The commit of the prefix may be that of a file which its writer extends: all ranks copy the
  // same.
  if (world_.min(prefix.tokens) != world_.max(prefix.tokens)) {
    throw Error::agreed(ErrorCode::cache,
                        fmt::format("{} changed while it was opened; try again when its writer is "
                                    "done",
                                    options_.prefix.string()),
                        0);
  }
  // --resume replaces a file in which nothing was committed.
  writer_ =
      CacheWriter::create(world_, options_.out, header, options_.force || options_.resume, prefix);
  done_ = prefix.tokens;
  report_.reused_tokens = done_;
}

}  // namespace powerprefill
