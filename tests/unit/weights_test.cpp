#include "model/weights/weights.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <memory>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <vector>

#include "base/dtype.hpp"
#include "model/families/dense.hpp"
#include "mpi/session.hpp"
#include "powerprefill/error.hpp"
#include "support/checkpoint_writer.hpp"

namespace powerprefill {
namespace {

using test::ScratchFolder;
using test::StoredTensor;
using test::StoredTensors;

// MPI as a singleton, started by the first test that needs it and ended with the program's tests.
class MpiEnvironment : public testing::Environment {
 public:
  void TearDown() override { session_.reset(); }

  mpi::Communicator& world() {
    if (!session_) {
      ::setenv("OMPI_MCA_ess_singleton_isolated", "1", 1);
      session_.reset(new mpi::Session(mpi::Session::start()));
    }
    return session_->world();
  }

 private:
  std::unique_ptr<mpi::Session> session_;
};

auto* const environment =
    static_cast<MpiEnvironment*>(testing::AddGlobalTestEnvironment(new MpiEnvironment));

ModelConfig small_config() {
  ModelConfig config;
  config.family = "qwen2";
  config.vocabulary = 24;
  config.hidden = 12;
  config.layers = 2;
  config.heads = 4;
  config.kv_heads = 2;
  config.head_dim = 6;
  config.feed_forward = 10;
  config.qkv_bias = true;
  config.qk_norm = true;
  return config;
}

using Shapes = std::map<std::string, std::vector<std::int64_t>>;

Shapes shapes_of(const ModelConfig& c) {
  const std::int64_t q = c.heads * c.head_dim;
  const std::int64_t kv = c.kv_heads * c.head_dim;
  Shapes shapes = {{"model.embed_tokens.weight", {c.vocabulary, c.hidden}},
                   {"model.norm.weight", {c.hidden}}};
  if (!c.tied_embeddings) shapes["lm_head.weight"] = {c.vocabulary, c.hidden};
  for (std::int64_t i = 0; i < c.layers; ++i) {
    const std::string layer = "model.layers." + std::to_string(i) + ".";
    shapes[layer + "input_layernorm.weight"] = {c.hidden};
    shapes[layer + "post_attention_layernorm.weight"] = {c.hidden};
    shapes[layer + "self_attn.q_proj.weight"] = {q, c.hidden};
    shapes[layer + "self_attn.k_proj.weight"] = {kv, c.hidden};
    shapes[layer + "self_attn.v_proj.weight"] = {kv, c.hidden};
    shapes[layer + "self_attn.o_proj.weight"] = {c.hidden, q};
    shapes[layer + "mlp.gate_proj.weight"] = {c.feed_forward, c.hidden};
    shapes[layer + "mlp.up_proj.weight"] = {c.feed_forward, c.hidden};
    shapes[layer + "mlp.down_proj.weight"] = {c.hidden, c.feed_forward};
    if (c.qkv_bias) {
      shapes[layer + "self_attn.q_proj.bias"] = {q};
      shapes[layer + "self_attn.k_proj.bias"] = {kv};
      shapes[layer + "self_attn.v_proj.bias"] = {kv};
    }
    if (c.qk_norm) {
      shapes[layer + "self_attn.q_norm.weight"] = {c.head_dim};
      shapes[layer + "self_attn.k_norm.weight"] = {c.head_dim};
    }
  }
  return shapes;
}

// A checkpoint in memory: what its file holds, and the same values in f32.
struct Model {
  StoredTensors stored;
  std::map<std::string, std::vector<float>> values;
};

// Values that bf16 and f16 both hold exactly.
Model random_model(const ModelConfig& config, DType dtype = DType::bf16) {
  std::mt19937 random(7);
  Model model;
  for (const auto& [name, shape] : shapes_of(config)) {
    std::int64_t elements = 1;
    for (const std::int64_t size : shape) elements *= size;
    std::vector<float> values;
    std::vector<std::uint16_t> halves;
    for (std::int64_t i = 0; i < elements; ++i) {
      values.push_back(static_cast<float>(static_cast<int>(random() % 255U) - 127) / 64.0F);
      halves.push_back(dtype == DType::bf16 ? bf16_from_f32(values.back())
                                            : f16_from_f32(values.back()));
    }
    model.values[name] = values;
    model.stored[name] =
        dtype == DType::f32
            ? StoredTensor::of("F32", shape, values)
            : StoredTensor::of(dtype == DType::bf16 ? "BF16" : "F16", shape, halves);
  }
  return model;
}

void write_single(const std::filesystem::path& folder, const StoredTensors& tensors) {
  test::write_safetensors(folder / "model.safetensors", tensors);
}

// Every third tensor goes into each of three files.
void write_shards(const std::filesystem::path& folder, const StoredTensors& tensors) {
  std::map<std::string, StoredTensors> shards;
  nlohmann::json map;
  std::size_t i = 0;
  for (const auto& [name, tensor] : tensors) {
    const std::string file = "model-" + std::to_string(i++ % 3) + ".safetensors";
    shards[file][name] = tensor;
    map[name] = file;
  }
  for (const auto& [file, part] : shards) test::write_safetensors(folder / file, part);
  test::write_text(folder / "model.safetensors.index.json",
                   nlohmann::json{{"weight_map", map}}.dump());
}

Weights load(const std::filesystem::path& folder, const ModelConfig& config, int threads = 2,
             const Weights::Placement& placement = {}) {
  ThreadPool pool(threads);
  ModelConfig described = config;
  describe_dense(described);
  return Weights::load(folder, described, Compute::f32, environment->world(), pool, placement);
}

std::span<const float> floats(const WeightMatrix& matrix) {
  return {reinterpret_cast<const float*>(matrix.data.data()), matrix.data.size() / sizeof(float)};
}

void expect_view(const Model& model, std::span<const float> view,
                 const std::vector<std::string>& names) {
  std::vector<float> expected;
  for (const std::string& name : names) {
    const std::vector<float>& values = model.values.at(name);
    expected.insert(expected.end(), values.begin(), values.end());
  }
  EXPECT_EQ(std::vector<float>(view.begin(), view.end()), expected) << names[0];
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(view.data()) % 64, 0U) << names[0];
}

void expect_all(const Model& model, const Weights& weights, const ModelConfig& config) {
  expect_view(
      model,
      {weights.embedding_of(0).data(), static_cast<std::size_t>(config.vocabulary * config.hidden)},
      {"model.embed_tokens.weight"});
  expect_view(model, weights.final_norm(), {"model.norm.weight"});
  for (std::int64_t i = 0; i < config.layers; ++i) {
    const LayerWeights& layer = weights.layer(i);
    const std::string prefix = "model.layers." + std::to_string(i) + ".";
    const std::string attention = prefix + "self_attn.";
    expect_view(model, layer.input_norm, {prefix + "input_layernorm.weight"});
    expect_view(model, layer.post_norm, {prefix + "post_attention_layernorm.weight"});
    expect_view(model, floats(layer.query), {attention + "q_proj.weight"});
    expect_view(model, floats(layer.key_value),
                {attention + "k_proj.weight", attention + "v_proj.weight"});
    expect_view(model, floats(layer.attention_out), {attention + "o_proj.weight"});
    expect_view(model, floats(layer.gate), {prefix + "mlp.gate_proj.weight"});
    expect_view(model, floats(layer.up), {prefix + "mlp.up_proj.weight"});
    expect_view(model, floats(layer.down), {prefix + "mlp.down_proj.weight"});
    if (config.qkv_bias) {
      expect_view(model, layer.query_bias, {attention + "q_proj.bias"});
      expect_view(model, layer.key_value_bias,
                  {attention + "k_proj.bias", attention + "v_proj.bias"});
    }
    if (config.qk_norm) {
      expect_view(model, layer.q_norm, {attention + "q_norm.weight"});
      expect_view(model, layer.k_norm, {attention + "k_norm.weight"});
    }
    EXPECT_EQ(layer.query_bias.empty(), !config.qkv_bias);
    EXPECT_EQ(layer.key_value_bias.empty(), !config.qkv_bias);
    EXPECT_EQ(layer.q_norm.empty(), !config.qk_norm);
    EXPECT_EQ(layer.k_norm.empty(), !config.qk_norm);
  }
}

TEST(Weights, ValuesAndLayout) {
  for (const DType dtype : {DType::bf16, DType::f16, DType::f32}) {
    const ScratchFolder folder;
    const ModelConfig config = small_config();
    const Model model = random_model(config, dtype);
    write_single(folder, model.stored);
    const Weights weights = load(folder, config);
    expect_all(model, weights, config);
    expect_view(model, floats(weights.output_head().weight), {"lm_head.weight"});
    EXPECT_EQ(weights.fingerprint().size(), 16U);
    EXPECT_GT(weights.bytes(), 0);
    EXPECT_EQ(weights.location(), "memory");
  }
}

TEST(Weights, TiedPlainModel) {
  const ScratchFolder folder;
  ModelConfig config = small_config();
  config.tied_embeddings = true;
  config.qkv_bias = false;
  config.qk_norm = false;
  Model model = random_model(config);
  write_single(folder, model.stored);
  const Weights weights = load(folder, config);
  expect_all(model, weights, config);
  EXPECT_EQ(floats(weights.output_head().weight).data(), weights.embedding_of(0).data());
  EXPECT_EQ(std::ssize(floats(weights.output_head().weight)), config.vocabulary * config.hidden);
  // Tensors that the model does not use change nothing.
  model.stored["lm_head.weight"] = model.stored["model.embed_tokens.weight"];
  model.stored["model.layers.0.self_attn.rotary_emb.inv_freq"] =
      StoredTensor::of("F32", {3}, std::vector<float>(3, 1.0F));
  model.stored["model.layers.2.self_attn.q_proj.bias"] =
      StoredTensor::of("F32", {3}, std::vector<float>(3, 1.0F));
  write_single(folder, model.stored);
  EXPECT_EQ(load(folder, config).fingerprint(), weights.fingerprint());
}

TEST(Weights, ShardsChangeNothing) {
  const ScratchFolder whole;
  const ScratchFolder cut;
  const ModelConfig config = small_config();
  const Model model = random_model(config);
  write_single(whole, model.stored);
  write_shards(cut, model.stored);
  const Weights weights = load(cut, config, 3);
  expect_all(model, weights, config);
  EXPECT_EQ(weights.fingerprint(), load(whole, config, 1).fingerprint());
}

TEST(Weights, FingerprintCoversValuesAndDtype) {
  const ScratchFolder folder;
  const ModelConfig config = small_config();
  Model model = random_model(config);
  write_single(folder, model.stored);
  const std::string fingerprint = load(folder, config).fingerprint();
  Model as_f32 = random_model(config, DType::f32);
  write_single(folder, as_f32.stored);
  EXPECT_NE(load(folder, config).fingerprint(), fingerprint);
  model.stored["model.layers.1.mlp.up_proj.weight"].bytes[5] ^= 1;
  write_single(folder, model.stored);
  EXPECT_NE(load(folder, config).fingerprint(), fingerprint);
  model.stored["model.layers.1.mlp.up_proj.weight"].bytes[5] ^= 1;
  write_single(folder, model.stored);
  EXPECT_EQ(load(folder, config).fingerprint(), fingerprint);
}

// Tensors of several pieces, the last one short.
TEST(Weights, LargeTensor) {
  const ScratchFolder folder;
  ModelConfig config = small_config();
  config.vocabulary = 200'003;
  config.layers = 1;
  const Model model = random_model(config);
  write_single(folder, model.stored);
  const Weights weights = load(folder, config);
  expect_all(model, weights, config);
  expect_view(model, floats(weights.output_head().weight), {"lm_head.weight"});
  EXPECT_EQ(load(folder, config, 1).fingerprint(), weights.fingerprint());
}

TEST(Weights, InAMappedFile) {
  const ScratchFolder folder;
  const ScratchFolder scratch;
  const ModelConfig config = small_config();
  const Model model = random_model(config);
  write_single(folder, model.stored);
  const Weights weights =
      load(folder, config, 2, {.store = mpi::SharedStore::file, .scratch_folder = scratch.path()});
  expect_all(model, weights, config);
  EXPECT_EQ(weights.location(), "file in " + scratch.path().string());
  EXPECT_TRUE(std::filesystem::is_empty(scratch.path()));
}

TEST(Weights, RefusesWhatDoesNotFit) {
  const ModelConfig config = small_config();
  const Model model = random_model(config);
  ModelConfig plain = config;
  plain.qkv_bias = false;
  ModelConfig without_norms = config;
  without_norms.qk_norm = false;
  ModelConfig deeper = config;
  deeper.layers = 3;
  ModelConfig tied = config;
  tied.tied_embeddings = true;
  const auto changed = [&](const std::string& name, const StoredTensor& tensor) {
    StoredTensors tensors = model.stored;
    tensors[name] = tensor;
    return tensors;
  };
  const auto without = [&](const std::string& name) {
    StoredTensors tensors = model.stored;
    tensors.erase(name);
    return tensors;
  };
  const StoredTensor one = StoredTensor::of("F32", {1}, std::vector<float>{1});
  struct Case {
    ModelConfig config;
    StoredTensors tensors;
    std::vector<std::string> named;
  };
  const std::string layer = "model.layers.1.";
  const std::vector<Case> cases = {
      {config, without("lm_head.weight"), {"lm_head.weight", "(24, 12)"}},
      {config, without(layer + "self_attn.k_proj.bias"), {"self_attn.k_proj.bias"}},
      {deeper, model.stored, {"model.layers.2.input_layernorm.weight"}},
      {config,
       changed(layer + "mlp.down_proj.weight", one),
       {layer + "mlp.down_proj.weight", "model.safetensors", "(1)", "(12, 10)"}},
      {config,
       changed("model.norm.weight", StoredTensor{"I8", {12}, std::string(12, '\1')}),
       {"model.norm.weight", "I8"}},
      {plain, model.stored, {"model.layers.0.self_attn.k_proj.bias", "model.safetensors"}},
      {without_norms, model.stored, {"model.layers.0.self_attn.k_norm.weight"}},
      {config, changed(layer + "self_attn.o_proj.bias", one), {layer + "self_attn.o_proj.bias"}},
      {config, changed(layer + "mlp.up_proj.bias", one), {layer + "mlp.up_proj.bias"}},
      {tied, changed("lm_head.bias", one), {"lm_head.bias"}},
      {config, changed("model.norm.bias", one), {"model.norm.bias"}},
  };
  for (const Case& c : cases) {
    const ScratchFolder folder;
    write_single(folder, c.tensors);
    try {
      load(folder, c.config);
      ADD_FAILURE() << "accepted: " << c.named[0];
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::input);
      EXPECT_TRUE(error.is_agreed());
      const std::string message = error.what();
      for (const std::string& part : c.named) {
        EXPECT_NE(message.find(part), std::string::npos) << part << " in: " << message;
      }
    }
  }
}

// The message of a refusal, or "accepted".
std::string refusal(const std::filesystem::path& folder, const ModelConfig& config) {
  try {
    load(folder, config);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::input);
    return error.what();
  }
  return "accepted";
}

ModelConfig tied_config() {
  ModelConfig config = small_config();
  config.tied_embeddings = true;
  return config;
}

TEST(Weights, TiedButTheFileHoldsTwoTables) {
  const ScratchFolder folder;
  const ModelConfig config = tied_config();
  Model model = random_model(config);
  write_single(folder, model.stored);
  const std::string fingerprint = load(folder, config).fingerprint();
  // The same values in another dtype are one table.
  const std::vector<float>& table = model.values["model.embed_tokens.weight"];
  StoredTensor& head = model.stored["lm_head.weight"];
  head = StoredTensor::of("F32", {config.vocabulary, config.hidden}, table);
  write_single(folder, model.stored);
  const Weights same = load(folder, config);
  EXPECT_EQ(same.fingerprint(), fingerprint);
  EXPECT_EQ(floats(same.output_head().weight).data(), same.embedding_of(0).data());
  // Others are not.
  std::vector<float> other = table;
  other.back() += 1.0F;
  head = StoredTensor::of("F32", {config.vocabulary, config.hidden}, other);
  model.values["lm_head.weight"] = other;
  for (const int shards : {1, 3}) {
    if (shards == 1) write_single(folder, model.stored);
    const ScratchFolder cut;
    if (shards == 3) write_shards(cut, model.stored);
    const Weights weights = load(shards == 1 ? folder.path() : cut.path(), config);
    expect_all(model, weights, config);
    expect_view(model, floats(weights.output_head().weight), {"lm_head.weight"});
    EXPECT_NE(weights.fingerprint(), fingerprint);
  }
  head = StoredTensor::of("F32", {1, config.hidden}, std::vector<float>(12));
  write_single(folder, model.stored);
  EXPECT_NE(refusal(folder, config).find("lm_head.weight"), std::string::npos);
}

TEST(Weights, TiedUnderTheNameOfTheHead) {
  const ScratchFolder folder;
  const ModelConfig config = tied_config();
  Model model = random_model(config);
  model.stored["lm_head.weight"] = model.stored["model.embed_tokens.weight"];
  model.stored.erase("model.embed_tokens.weight");
  write_single(folder, model.stored);
  const Weights weights = load(folder, config);
  expect_all(model, weights, config);
  EXPECT_EQ(floats(weights.output_head().weight).data(), weights.embedding_of(0).data());
}

TEST(Weights, RefusesUnknownTensorsOfTheModel) {
  const ModelConfig config = small_config();
  const Model model = random_model(config);
  const StoredTensor one = StoredTensor::of("F32", {1}, std::vector<float>{1});
  const ScratchFolder folder;
  const auto with = [&](const std::string& name) {
    StoredTensors tensors = model.stored;
    tensors[name] = one;
    write_single(folder, tensors);
    return refusal(folder, config);
  };
  const std::string layer = "model.layers.1.";
  for (const std::string& name :
       {layer + "self_attn.sinks", layer + "self_attn.q_proj.lora_A.weight", layer + "layer_scalar",
        layer + "mlp.experts.0.up_proj.weight", layer + "self_attn.k_proj.weight_scale",
        std::string("model.embed_tokens.lora_embedding_A"), std::string("lm_head.weight_scale")}) {
    const std::string message = with(name);
    EXPECT_NE(message.find("the tensor " + name), std::string::npos) << message;
  }
  for (const std::string& name :
       {layer + "self_attn.rotary_emb.inv_freq", layer + "self_attn.rotary_emb.cos_cached",
        layer + "self_attn.masked_bias", layer + "attn.bias",
        std::string("model.rotary_emb.inv_freq"), std::string("model.layers.2.enorm.weight"),
        std::string("mtp.norm.weight")}) {
    EXPECT_EQ(with(name), "accepted") << name;
  }
  // In a shard, though its index does not name it.
  const ScratchFolder cut;
  write_shards(cut, model.stored);
  StoredTensors shard;
  std::size_t i = 0;
  for (const auto& [name, tensor] : model.stored) {
    if (i++ % 3 == 0) shard[name] = tensor;
  }
  shard[layer + "self_attn.sinks"] = one;
  test::write_safetensors(cut.path() / "model-0.safetensors", shard);
  EXPECT_NE(refusal(cut, config).find("self_attn.sinks"), std::string::npos);
}

TEST(Weights, RefusesValuesThatAreNotFinite) {
  const ScratchFolder folder;
  const float infinity = std::numeric_limits<float>::infinity();
  for (const bool tied : {false, true}) {
    const ModelConfig config = tied ? tied_config() : small_config();
    for (const DType dtype : {DType::bf16, DType::f16, DType::f32}) {
      const Model model = random_model(config, dtype);
      for (const auto& [name, tensor] : model.stored) {
        for (const float value : {infinity, -infinity, std::nanf("")}) {
          StoredTensors tensors = model.stored;
          std::string& bytes = tensors[name].bytes;
          const std::uint16_t half =
              dtype == DType::f16 ? f16_from_f32(value) : bf16_from_f32(value);
          const std::size_t width = bytes_of(dtype);
          const char* from = width == 4 ? reinterpret_cast<const char*>(&value)
                                        : reinterpret_cast<const char*>(&half);
          std::copy_n(from, width, bytes.data() + bytes.size() - width);
          write_single(folder, tensors);
          const std::string message = refusal(folder, config);
          if (name == "model.embed_tokens.weight" && !tied) {
            EXPECT_EQ(message, "accepted");
          } else {
            EXPECT_NE(message.find("tensor " + name + " in "), std::string::npos) << message;
          }
        }
      }
    }
  }
}

TEST(Weights, RefusesDamagedFolders) {
  const ScratchFolder folder;
  EXPECT_THROW(load(folder, small_config()), Error);
  test::write_text(folder.path() / "model.safetensors", "garbage");
  EXPECT_THROW(load(folder, small_config()), Error);
}

}  // namespace
}  // namespace powerprefill
