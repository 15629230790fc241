// The zones that the time of a rank is accounted in.
#pragma once

#include <array>
#include <cstddef>
#include <string_view>

namespace powerprefill {

// A closed list; times are those of the rank's main thread, and zones do not overlap.
enum class Zone {
  load_weights,   // of the checkpoint, or waiting for other ranks to
  create_cache,   // or opening the one to go on with
  embed,          // tokens to hidden states
  norm,           // RMSNorm of hidden states
  qkv,            // the projections to queries, keys and values
  rope,           // and what follows them row by row
  attention,      // over the blocks that are here
  exchange_wait,  // for blocks of other ranks
  past_wait,      // for blocks of earlier chunks, from the file
  attention_out,  // the output projection
  mlp,            // the feed-forward layers
  logits,         // after the last token
  cache_wait,     // for a buffer that is being written
  commit,         // until the disk has everything
  count
};

inline constexpr std::size_t kZones = static_cast<std::size_t>(Zone::count);

// As in reports, e.g. "exchange_wait".
constexpr std::string_view name_of(Zone zone) {
  constexpr std::array<std::string_view, kZones> names = {
      "load_weights",  "create_cache", "embed",         "norm", "qkv",    "rope",       "attention",
      "exchange_wait", "past_wait",    "attention_out", "mlp",  "logits", "cache_wait", "commit"};
  return names[static_cast<std::size_t>(zone)];
}

}  // namespace powerprefill
