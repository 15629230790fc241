#include "prefill/cache_output.hpp"

#include <cstddef>
#include <span>

namespace powerprefill {

void CacheOutput::take(std::int64_t layer, const LocalRows& rows, KvBlocks& kv) {
  const std::int64_t row_bytes = writer_.header().row_bytes();
  for (const RowRun& run : rows.runs()) {
    // Without the padding of the prompt's last block.
    const std::int64_t first = run.first_block_token();
    const auto bytes = static_cast<std::size_t>((run.end_token - first) * row_bytes);
    const KvSpan span = kv.span(run.first_local_block, run.blocks.count).first(bytes);
    tickets_[&kv] = writer_.write_layer(layer, first, span.key, span.value);
  }
}

void CacheOutput::wait(const KvBlocks& kv) {
  const auto ticket = tickets_.find(&kv);
  if (ticket != tickets_.end()) writer_.wait_for(ticket->second);
}

void CacheOutput::finish(Chunk& chunk) {
  if (!writer_.header().saves_hidden) return;
  const std::span<const float> rows = chunk.hidden_rows();
  const auto e = static_cast<std::size_t>(writer_.header().hidden);
  std::size_t next = 0;
  for (const RowRun& run : chunk.rows().runs()) {
    const auto count = static_cast<std::size_t>(run.end_token - run.first_block_token());
    writer_.write_hidden(run.first_block_token(), rows.subspan(next * e, count * e));
    next += count;
  }
}

}  // namespace powerprefill
