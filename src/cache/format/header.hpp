// What a cache file says about itself: fixed when the file is made, hashed into every commit.
#pragma once

#include <cstdint>
#include <string>

#include "base/dtype.hpp"
#include "cache/format/kv_shape.hpp"

namespace powerprefill {

// Of the format that this program writes.
inline constexpr std::int32_t kCacheVersionMajor = 1;
inline constexpr std::int32_t kCacheVersionMinor = 0;

struct CacheHeader {
  std::int32_t version_minor = kCacheVersionMinor;
  std::uint64_t generation = 0;   // random number of this file
  std::int64_t capacity = 0;      // tokens that the file has room for, a multiple of block_tokens
  std::int64_t block_tokens = 0;  // B
  std::int64_t num_layers = 0;    // N
  std::int64_t num_kv_heads = 0;  // G
  std::int64_t head_dim = 0;      // D
  std::int64_t hidden = 0;        // E
  std::int64_t vocabulary = 0;    // V
  DType dtype = DType::f32;       // of keys and values
  std::string weights_fingerprint;
  std::string config_fingerprint;
  std::string tokenizer_fingerprint;  // empty when the checkpoint has no tokenizer
  std::string schedule;               // JSON, see powerprefill/pattern.hpp
  std::string rope;                   // JSON
  std::string compute;                // f32
  std::string numerics;               // numerics id, see math/numerics.hpp
  std::string writer;                 // program version and build
  bool saves_hidden = false;          // the file has /hidden_all and /hidden_checksums

  KvShape kv_shape() const { return {block_tokens, num_kv_heads, head_dim, dtype}; }
  std::int64_t row_bytes() const { return kv_shape().row_bytes(); }
  std::int64_t blocks() const { return capacity / block_tokens; }
};

}  // namespace powerprefill
