#include "prefill/prefill_job.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "base/checked.hpp"
#include "base/memory.hpp"
#include "plan/chunks.hpp"
#include "prefill/cache_output.hpp"

namespace powerprefill {

namespace {

// Of the memory that is left when the weights are loaded, for the buffers of the ranks.
constexpr double kMemoryShare = 0.6;
// Fewer tokens than these at a time are worth a note.
constexpr std::int64_t kSmallChunk = 8192;

}  // namespace

PrefillReport PrefillJob::run() {
  poll_.emplace(StopPoll::make(world_, options_.should_stop, options_.stop_patience));
  world_.agree([&] { check_options(); });
  input_.require_same(world_);
  world_.agree([&] { input_.check_for(model_.config); });
  kv_shape_ = kv_shape_of(model_.config, options_.run, model_.compute);
  if (!model_.has_weights) {
    check_output();
    const ZoneTimer timer(zones_, Zone::load_weights);
    model_.load();
  }
  choose_chunk();
  {
    const ZoneTimer timer(zones_, Zone::create_cache);
    open_cache();
  }
  start_trace();
  world_.barrier();
  begin_ = seconds_now();
  const std::int64_t first = done_;
  while (done_ < prompt_tokens()) {
    const std::int64_t end =
        end_of_chunk(done_, report_.chunk_tokens, kv_shape_.block, prompt_tokens());
    if (!run_chunk(end)) stop();
    commit_chunk();
    if (done_ < prompt_tokens() && poll_->is_over()) stop();
  }
  report_.computed_tokens = done_ - first;
  finish_report();
  write_trace();
  return report_;
}

ChunkShape PrefillJob::chunk_shape(std::int64_t tokens) const {
  return {.tokens = tokens,
          .prompt = prompt_tokens(),
          .ranks = world_.size(),
          .threads = model_.pool->threads(),
          .zigzag = zigzag_,
          .saves_hidden = options_.save_hidden,
          .operand_bytes = operand_bytes(model_.compute)};
}

void PrefillJob::choose_chunk() {
  zigzag_ = takes_zigzag(options_.run.partition, options_.run.schedule);
  report_.chunk_tokens = round_up(options_.chunk_tokens, kv_shape_.block);
  if (report_.chunk_tokens > 0) return;
  const std::int64_t mine = default_chunk(model_.config, kv_shape_, chunk_shape(prompt_tokens()),
                                          model_.share_of_memory(kMemoryShare));
  report_.chunk_tokens = world_.min(mine);
  if (report_.chunk_tokens >= std::min(prompt_tokens(), kSmallChunk)) return;
  const AvailableMemory memory = available_memory();
  const std::string reason =
      mine > report_.chunk_tokens
          ? ""
          : fmt::format("on host {} {} MiB of memory are available, bounded by {}",
                        mpi::host_name(), memory.bytes >> 20, memory.bound);
  for (const std::string& text : world_.gather_strings(reason, 0)) {
    if (text.empty()) continue;
    note(
        fmt::format("only {} tokens at a time, which is slow: {}; raise the limit, or take more "
                    "nodes or fewer ranks on each",
                    report_.chunk_tokens, text));
    break;
  }
}

// For the user, from rank 0.
void PrefillJob::note(const std::string& text) const {
  if (world_.is_root() && options_.note) options_.note(text);
}

bool PrefillJob::run_chunk(std::int64_t end) {
  const ChunkContext context = {.model = model_,
                                .schedule = options_.run.schedule,
                                .kv_shape = kv_shape_,
                                .zigzag = zigzag_,
                                .zones = zones_,
                                .past_row = past_row_};
  world_.agree([&] {
    chunk_.emplace(context, std::span(options_.tokens).first(static_cast<std::size_t>(end)), done_,
                   past_ ? past_in(*past_) : PastSource{});
  });
  poll_->begin_chunk();
  CacheOutput output(*writer_);
  if (!chunk_->run(&output, [this](std::int64_t layers) { return goes_on(layers); })) return false;
  output.finish(*chunk_);
  return true;
}

// Makes the chunk count, and prepares its being the past of the next.
void PrefillJob::commit_chunk() {
  const Chunk::Last last = chunk_->last();
  done_ = chunk_->partition().tokens().end;
  {
    const ZoneTimer timer(zones_, Zone::commit);
    writer_->commit(done_, std::span(options_.tokens).first(static_cast<std::size_t>(done_)),
                    last.logits, last.hidden);
  }
  ++report_.chunks;
  count_chunk();
  chunk_.reset();
  past_.reset();
  show_progress(model_.config.layers);
  if (done_ == prompt_tokens()) return;
  // A descriptor from after the commit sees what other nodes have written.
  past_ = writer_->read_back();
}

bool PrefillJob::goes_on(std::int64_t layers_done) {
  const std::int64_t layers = model_.config.layers;
  if (layers_done < layers) show_progress(layers_done);
  return poll_->goes_on(layers_done, layers);
}

void PrefillJob::stop() const {
  throw Error::agreed(ErrorCode::interrupted,
                      fmt::format("stopped by a signal with {} of {} tokens committed to {}; the "
                                  "same command with --resume goes on from there",
                                  writer_->committed(), prompt_tokens(), options_.out.string()),
                      -1);
}

}  // namespace powerprefill
