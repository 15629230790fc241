#include "run/cache_identity.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "base/shortened.hpp"

namespace powerprefill {

namespace {

std::string shown(const std::string& text) {
  return text.empty() ? "none" : shortened(text, 120);
}

void require_same(const std::filesystem::path& path, const char* what, const char* field,
                  const std::string& of_cache, const std::string& of_run, const char* advice) {
  if (of_cache == of_run) return;
  throw Error(ErrorCode::cache, fmt::format("{} {}: its {} is {}, here it is {}; {}", path.string(),
                                            what, field, shown(of_cache), shown(of_run), advice));
}

}  // namespace

CacheHeader header_for(const Model::State& model, const Schedule& schedule, DType dtype) {
  CacheHeader header;
  header.block_tokens = schedule.block;
  header.num_layers = model.config.layers;
  header.num_kv_heads = model.config.kv_heads;
  header.head_dim = model.config.head_dim;
  header.hidden = model.config.hidden;
  header.vocabulary = model.config.vocabulary;
  header.dtype = dtype;
  header.weights_fingerprint = model.weights.fingerprint();
  header.config_fingerprint = model.config_fingerprint;
  header.tokenizer_fingerprint = model.tokenizer_fingerprint;
  header.schedule = to_json(schedule);
  header.rope = rope_to_json(model.config.rope);
  header.compute = name_of(model.compute);
  header.numerics = model.numerics;
  header.writer = "powerprefill " POWERPREFILL_VERSION;
  return header;
}

void require_same_model(const std::filesystem::path& path, const CacheHeader& cache,
                        const CacheHeader& model) {
  const char* what = "was made by another model";
  const char* advice = "use the checkpoint that made it";
  require_same(path, what, "config", cache.config_fingerprint, model.config_fingerprint, advice);
  if (!model.weights_fingerprint.empty()) {
    require_same(path, what, "weights", cache.weights_fingerprint, model.weights_fingerprint,
                 advice);
  }
  require_same(path, what, "rope", cache.rope, model.rope, advice);
  require_same(path, what, "tokenizer", cache.tokenizer_fingerprint, model.tokenizer_fingerprint,
               advice);
}

void require_same_run(const std::filesystem::path& path, const CacheHeader& cache,
                      const CacheHeader& run, bool allow_mixed) {
  const char* what = "was made with other options";
  const char* advice = "give those that made it";
  require_same(path, what, "schedule", cache.schedule, run.schedule, advice);
  require_same(path, what, "block_tokens", std::to_string(cache.block_tokens),
               std::to_string(run.block_tokens), advice);
  require_same(path, what, "dtype", std::string(name_of(cache.dtype)),
               std::string(name_of(run.dtype)), advice);
  require_same(path, what, "saves_hidden", cache.saves_hidden ? "yes" : "no",
               run.saves_hidden ? "yes" : "no", advice);
  require_same(path, what, "compute", cache.compute, run.compute, advice);
  if (allow_mixed) return;
  require_same(
      path, "was computed otherwise", "numerics", cache.numerics, run.numerics,
      "go on where the same kernels run, or accept other bits with --allow-mixed-numerics");
}

std::int64_t common_tokens(std::span<const std::int32_t> a, std::span<const std::int32_t> b) {
  const auto shorter = static_cast<std::ptrdiff_t>(std::min(a.size(), b.size()));
  return std::mismatch(a.begin(), a.begin() + shorter, b.begin()).first - a.begin();
}

}  // namespace powerprefill
