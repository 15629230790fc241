#include "engine/prefill_job.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "base/checked.hpp"
#include "engine/file_sink.hpp"

namespace powerprefill {

namespace {

// Of the memory that is left when the weights are loaded, for the buffers of the ranks.
constexpr double kMemoryShare = 0.6;

}  // namespace

PrefillReport PrefillJob::run() {
  world_.agree([&] { check_options(); });
  if (!is_loaded_) {
    const ZoneTimer timer(zones_, Zone::load_weights);
    model_ = load_model(world_, options_.model);
  }
  world_.agree([&] { input_.check_for(model_.config); });
  kv_shape_ = input_.kv_shape(model_);
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
    if (done_ < prompt_tokens() && shall_stop()) stop();
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
          .saves_hidden = options_.save_hidden};
}

void PrefillJob::choose_chunk() {
  zigzag_ = takes_zigzag(options_.partition, options_.schedule);
  report_.chunk_tokens = round_up(options_.chunk_tokens, kv_shape_.block);
  if (report_.chunk_tokens > 0) return;
  report_.chunk_tokens =
      world_.min(default_chunk(model_.config, kv_shape_, chunk_shape(prompt_tokens()),
                               model_.share_of_memory(kMemoryShare)));
}

bool PrefillJob::run_chunk(std::int64_t end) {
  const Chunk::Context context = {.world = world_,
                                  .model = model_,
                                  .schedule = options_.schedule,
                                  .kv_shape = kv_shape_,
                                  .zigzag = zigzag_,
                                  .zones = zones_,
                                  .past_row = past_row_};
  world_.agree([&] {
    chunk_.emplace(context, std::span(options_.tokens).first(static_cast<std::size_t>(end)), done_,
                   past_ ? &*past_ : nullptr);
  });
  chunk_begin_ = seconds_now();
  return FileSink(*writer_).run(*chunk_, [this](std::int64_t layers) { return goes_on(layers); });
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
  world_.agree([&] { past_ = writer_->read_back(); });
}

// Asks all ranks whether to stop, without waiting: the answer is that to the layer before.
bool PrefillJob::goes_on(std::int64_t layers_done) {
  if (vote_.is_open()) verdict_ = std::max(verdict_, static_cast<StopVote>(vote_.result()));
  const std::int64_t layers = model_.config.layers;
  if (layers_done < layers) show_progress(layers_done);
  if (verdict_ == drop_chunk) return false;
  if (layers_done == layers) return true;
  StopVote mine = go_on;
  if (verdict_ == go_on && options_.should_stop && options_.should_stop()) {
    const double seconds = seconds_now() - chunk_begin_;
    const double left =
        seconds / static_cast<double>(layers_done) * static_cast<double>(layers - layers_done);
    mine = left <= options_.stop_patience ? finish_chunk : drop_chunk;
  }
  vote_.start(mine);
  return true;
}

// Between chunks.
bool PrefillJob::shall_stop() const {
  const bool mine = verdict_ != go_on || (options_.should_stop && options_.should_stop());
  return world_.max(std::int64_t{mine ? 1 : 0}) == 1;
}

void PrefillJob::stop() const {
  throw Error::agreed(ErrorCode::interrupted,
                      fmt::format("stopped by a signal with {} of {} tokens committed to {}; the "
                                  "same command with --resume goes on from there",
                                  writer_->committed(), prompt_tokens(), options_.out.string()),
                      -1);
}

}  // namespace powerprefill
