// What a prefill tells about itself: progress, and the report at the end.
#include <algorithm>
#include <filesystem>

#include "base/memory.hpp"
#include "prefill/prefill_job.hpp"

namespace powerprefill {

void PrefillJob::show_progress(std::int64_t layers_done) const {
  if (!options_.progress) return;
  const std::int64_t layers = model_.config.layers;
  const std::int64_t chunk_begin = chunk_ ? chunk_->partition().tokens().begin : done_;
  const std::int64_t chunk_end = chunk_ ? chunk_->partition().tokens().end : done_;
  const std::int64_t first = std::max(report_.resumed_from, report_.reused_tokens);
  const double share = static_cast<double>(layers_done) / static_cast<double>(layers);
  const double tokens = static_cast<double>(chunk_begin - first) +
                        share * static_cast<double>(chunk_end - chunk_begin);
  const double seconds = seconds_now() - begin_;
  options_.progress(
      {.layer = layers_done,
       .layers = layers,
       .committed = done_,
       .chunk_end = chunk_end,
       .tokens = prompt_tokens(),
       .seconds = seconds,
       .seconds_left = seconds / tokens * static_cast<double>(prompt_tokens() - first) - seconds});
}

// Adds what the chunk did to the account of this rank.
void PrefillJob::count_chunk() {
  const ChunkAttention& attention = chunk_->attention();
  mine_.tokens += chunk_->rows().tokens();
  mine_.activation_bytes = std::max(mine_.activation_bytes, chunk_->bytes());
  mine_.planned_bytes = std::max(
      mine_.planned_bytes,
      rank_memory(model_.config, kv_shape_, chunk_shape(chunk_->partition().tokens().count()))
          .total());
  mine_.bytes_received += attention.bytes_received();
  mine_.bytes_planned += attention.bytes_planned();
  mine_.past_bytes_read += attention.past_bytes_read();
  mine_.peers = std::max(mine_.peers, static_cast<std::int64_t>(attention.peers().size()));
  mine_.pairs += attention.blocks().pairs();
  const ModelConfig& c = model_.config;
  mine_.attention_flops += 4.0 * static_cast<double>(attention.blocks().token_pairs()) *
                           static_cast<double>(c.heads * c.head_dim);
}

void PrefillJob::finish_report() {
  report_.wall_seconds = world_.max(seconds_now() - begin_);
  report_.tokens = prompt_tokens();
  report_.ranks = world_.size();
  report_.nodes = model_.session.nodes();
  report_.compute = type_of(model_.compute);
  report_.kv_type = kv_type_of(kv_shape_.dtype);
  report_.numerics = model_.numerics;
  report_.weights_bytes = model_.weights.bytes();
  report_.weights_location = model_.weights.location();
  std::error_code error;
  report_.cache_bytes = static_cast<std::int64_t>(std::filesystem::file_size(options_.out, error));
  mine_.threads = model_.pool->threads();
  mine_.node = model_.session.node();
  std::copy(zones_.begin(), zones_.end(), mine_.zone_seconds.begin());
  mine_.gemm_flops = linear_flops(model_.config, mine_.tokens);
  mine_.cache_write_seconds = writer_->write_seconds();
  mine_.peak_rss_bytes = peak_resident_bytes();
  mine_.pss_bytes = proportional_set_bytes();
  world_.barrier();  // nobody gives shared memory back while others count their part of it
  report_.per_rank = world_.all_gather_value(mine_);
  if (!world_.is_root()) report_.per_rank.clear();
}

void PrefillJob::start_trace() {
  if (options_.trace.empty()) return;
  trace_.emplace();
  zones_.row = &trace_->add_row("main");
  model_.pool->set_trace(&*trace_);
  writer_->set_trace(*trace_);
  past_row_ = &trace_->add_row("past reader");
}

// Ranks count time from the barrier before the first chunk.
void PrefillJob::write_trace() {
  if (!trace_) return;
  const std::vector<std::string> parts =
      world_.gather_strings(trace_->to_json(world_.rank(), begin_), 0);
  world_.agree([&] {
    if (!world_.is_root()) return;
    std::string text = "[";
    for (const std::string& part : parts) text += (text.size() > 1 ? ",\n" : "\n") + part;
    trace_file_.write(text + "\n]\n");
    trace_file_.commit();
  });
}

}  // namespace powerprefill
