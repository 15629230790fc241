// Reading KV cache files: what they say, their rows, whether they are whole.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "powerprefill/error.hpp"
#include "powerprefill/model.hpp"
#include "powerprefill/pattern.hpp"
#include "powerprefill/session.hpp"

namespace powerprefill {

// What a file says about itself and its newest commit.
struct CacheInfo {
  std::int64_t tokens = 0;    // n, that count
  std::int64_t capacity = 0;  // that the file has room for
  std::uint64_t commits = 0;
  std::int64_t block_tokens = 0;  // B
  std::int64_t num_layers = 0;    // N
  std::int64_t num_kv_heads = 0;  // G
  std::int64_t head_dim = 0;      // D
  std::int64_t hidden = 0;        // E
  std::int64_t vocabulary = 0;    // V
  KvType kv_type = KvType::f32;   // of keys and values
  ComputeType compute = ComputeType::f32;
  std::int64_t file_bytes = 0;
  bool saves_hidden = false;  // final hidden states of all tokens
  std::string schedule;       // as JSON, see schedule_from_json()
  std::string weights_fingerprint;
  std::string numerics;  // what the bits depend on
  // [begin, end) of every run of tokens that were decoded, not prefilled; ascending.
  std::vector<std::pair<std::int64_t, std::int64_t>> decoded_ranges;
};

// A committed state of a file; also while a writer goes on. Opening costs O(blocks), whatever the
// size of the data. What is read is checked against its checksums. Any thread may read; what spans
// show stays as long as this.
class Cache {
 public:
  // Not collective. Throws Error(cache) naming what is wrong with the file: none of ours, a newer
  // version, truncated, without a commit; Error(input) when it does not exist.
  explicit Cache(const std::filesystem::path& path);
  // Collective: all ranks have the same commit. Throws agreed Errors as above.
  Cache(Session& session, const std::filesystem::path& path);
  ~Cache();
  Cache(Cache&&) noexcept;
  Cache& operator=(Cache&&) noexcept;

  const CacheInfo& info() const;
  std::span<const std::int32_t> token_ids() const;  // (n)
  std::span<const float> logits() const;            // (V), after the last token
  std::span<const float> hidden() const;            // (E), final, of the last token

  enum class Rows { key, value };
  // Rows [first, first + rows.size() / (G D)) of a layer as f32, (tokens, G, D); keys are after
  // RoPE. Throws Error(usage) for rows beyond the committed ones, Error(cache) naming a damaged
  // block.
  void read(std::int64_t layer, Rows part, std::int64_t first, std::span<float> rows) const;

  // Rereads and rehashes every block: the bytes read, and what is damaged, as texts.
  struct Verification {
    std::int64_t bytes = 0;
    std::vector<std::string> damage;
  };
  Verification verify() const;
  // Collective: the ranks share the blocks, and each gets what all have found.
  Verification verify(Session& session) const;

  // Writes all that is committed as safetensors, and returns the bytes: see `powerprefill export`.
  // Throws Error: usage when `path` exists and `replace` is false; cache for damage; storage.
  std::int64_t export_safetensors(const std::filesystem::path& path, bool replace = false) const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace powerprefill
