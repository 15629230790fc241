#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "model/families/load_config.hpp"
#include "powerprefill/error.hpp"
#include "support/checkpoint_writer.hpp"

namespace powerprefill {
namespace {

using nlohmann::json;

json base(const std::string& family, const std::string& architecture) {
  json config = {{"model_type", family},
                 {"architectures", {architecture}},
                 {"vocab_size", 1000},
                 {"hidden_size", 256},
                 {"num_hidden_layers", 3},
                 {"num_attention_heads", 8},
                 {"num_key_value_heads", 2},
                 {"intermediate_size", 512},
                 {"max_position_embeddings", 4096}};
  if (family == "mistral") config["sliding_window"] = nullptr;
  return config;
}

json llama() {
  return base("llama", "LlamaForCausalLM");
}
json mistral() {
  return base("mistral", "MistralForCausalLM");
}
json qwen2() {
  return base("qwen2", "Qwen2ForCausalLM");
}
json qwen3() {
  return base("qwen3", "Qwen3ForCausalLM");
}

// `config` with the keys of `changes` set; a changed key of "-" is taken away.
json with(json config, const json& changes) {
  for (const auto& [key, value] : changes.items()) {
    if (value == "-") {
      config.erase(key);
    } else {
      config[key] = value;
    }
  }
  return config;
}

ModelConfig load(const std::string& text, const std::string& generation = "") {
  const test::ScratchFolder folder;
  test::write_text(folder.path() / "config.json", text);
  if (!generation.empty()) test::write_text(folder.path() / "generation_config.json", generation);
  return load_config(folder);
}

ModelConfig load(const json& config, const std::string& generation = "") {
  return load(config.dump(), generation);
}

// The message of the refusal, or "accepted".
std::string refusal(const std::string& text, const std::string& generation = "") {
  try {
    load(text, generation);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::input);
    return error.what();
  }
  return "accepted";
}

std::string text_of(const std::vector<ModelNote>& notes) {
  std::string text;
  for (const ModelNote& note : notes) {
    text += std::to_string(note.beyond) + ": " + note.text + "\n";
  }
  return text;
}

TEST(Config, ReadsTheShape) {
  const ModelConfig c = load(with(llama(), {{"rms_norm_eps", 1e-5}, {"rope_theta", 500000.0}}));
  EXPECT_EQ(c.family, "llama");
  EXPECT_EQ(c.vocabulary, 1000);
  EXPECT_EQ(c.hidden, 256);
  EXPECT_EQ(c.layers, 3);
  EXPECT_EQ(c.heads, 8);
  EXPECT_EQ(c.kv_heads, 2);
  EXPECT_EQ(c.head_dim, 32);
  EXPECT_EQ(c.feed_forward, 512);
  EXPECT_EQ(c.max_positions, 4096);
  EXPECT_EQ(c.norm_epsilon, 1e-5F);
  EXPECT_FALSE(c.qkv_bias);
  EXPECT_FALSE(c.qk_norm);
  EXPECT_FALSE(c.tied_embeddings);
  EXPECT_EQ(c.rope.type, "default");
  EXPECT_EQ(c.rope.theta, 500000.0);
  EXPECT_TRUE(c.end_tokens.empty());
  EXPECT_TRUE(c.power_attention.empty());
}

TEST(Config, FamiliesDiffer) {
  EXPECT_FALSE(load(mistral()).qkv_bias);
  EXPECT_TRUE(load(qwen2()).qkv_bias);
  EXPECT_FALSE(load(qwen2()).qk_norm);
  EXPECT_FALSE(load(qwen3()).qkv_bias);
  EXPECT_TRUE(load(qwen3()).qk_norm);
  EXPECT_EQ(load(qwen3()).head_dim, 128);
  EXPECT_EQ(load(with(qwen3(), {{"head_dim", 64}})).head_dim, 64);
  EXPECT_EQ(load(with(mistral(), {{"head_dim", 64}})).head_dim, 64);
  EXPECT_EQ(load(with(mistral(), {{"head_dim", nullptr}})).head_dim, 32);
}

TEST(Config, DefaultsOfAbsentKeys) {
  const json absent = {{"num_key_value_heads", "-"}, {"max_position_embeddings", "-"}};
  const ModelConfig c = load(with(llama(), absent));
  EXPECT_EQ(c.kv_heads, 8);
  EXPECT_EQ(c.max_positions, 2048);
  EXPECT_EQ(c.norm_epsilon, 1e-6F);
  EXPECT_EQ(c.rope.theta, 10000.0);
  EXPECT_EQ(load(with(mistral(), absent)).max_positions, 131072);
  EXPECT_EQ(load(with(with(qwen3(), absent), {{"num_attention_heads", 64}})).max_positions, 32768);
  const json many = {{"num_key_value_heads", "-"}, {"num_attention_heads", 64}};
  EXPECT_EQ(load(with(llama(), many)).kv_heads, 64);
  EXPECT_EQ(load(with(mistral(), many)).kv_heads, 8);
  EXPECT_EQ(load(with(qwen2(), many)).kv_heads, 32);
  EXPECT_EQ(load(with(qwen3(), many)).kv_heads, 32);
  EXPECT_EQ(load(with(qwen2(), {{"num_key_value_heads", nullptr}})).kv_heads, 8);
}

TEST(Config, ModelTypeDecidesWithoutArchitectures) {
  EXPECT_TRUE(load(with(qwen2(), {{"architectures", "-"}})).qkv_bias);
  EXPECT_TRUE(load(with(qwen2(), {{"architectures", nullptr}})).qkv_bias);
  EXPECT_TRUE(load(with(qwen2(), {{"model_type", "-"}})).qkv_bias);
}

TEST(Config, AcceptsInactiveFeatures) {
  load(with(qwen2(), {{"use_sliding_window", false}, {"sliding_window", 32768}}));
  load(with(qwen2(), {{"use_sliding_window", true}, {"sliding_window", nullptr}}));
  load(with(qwen3(), {{"layer_types", {"full_attention", "full_attention", "full_attention"}}}));
  load(with(llama(), {{"attention_bias", false}, {"mlp_bias", false}, {"hidden_act", "silu"}}));
  load(with(llama(), {{"partial_rotary_factor", 1.0}, {"quantization_config", nullptr}}));
  load(with(llama(), {{"is_causal", true}, {"use_bidirectional_attention", false}}));
  load(with(mistral(), {{"attention_bias", true}}));  // transformers does not read it there
}

TEST(Config, RefusesByName) {
  struct Case {
    json config;
    std::vector<std::string> named;
  };
  const json rope = {{"rope_type", "llama3"}, {"factor", 8.0}, {"low_freq_factor", 1.0}};
  const std::vector<Case> cases = {
      {with(llama(), {{"architectures", {"GemmaForCausalLM"}}}),
       {"GemmaForCausalLM", "LlamaForCausalLM, MistralForCausalLM, Qwen2ForCausalLM"}},
      {with(llama(), {{"architectures", "LlamaForCausalLM"}}), {"architectures", "list"}},
      {with(llama(), {{"architectures", {1}}}), {"architectures", "list"}},
      {with(llama(), {{"architectures", {"LlamaForCausalLM", "Qwen2ForCausalLM"}}}),
       {"architectures", "several"}},
      {with(llama(), {{"model_type", "gemma"}, {"architectures", "-"}}),
       {"model_type", "gemma", "Qwen3ForCausalLM"}},
      {with(llama(), {{"model_type", "qwen2"}}), {"model_type", "qwen2", "LlamaForCausalLM"}},
      {with(llama(), {{"model_type", "-"}, {"architectures", "-"}}), {"model_type", "missing"}},
      {with(llama(), {{"model_type", 3}}), {"model_type", "not a string"}},
      {with(qwen3(), {{"num_experts", 128}}), {"num_experts", "mixtures of experts"}},
      {with(mistral(), {{"num_local_experts", 8}}), {"num_local_experts", "mixtures of experts"}},
      {with(llama(), {{"vision_config", {{"depth", 2}}}}), {"vision_config", "multimodal"}},
      {with(llama(), {{"text_config", json::object()}}), {"text_config", "multimodal"}},
      {with(llama(), {{"quantization_config", {{"bits", 4}}}}), {"quantization_config"}},
      {with(llama(), {{"quantization", {{"group_size", 64}, {"bits", 4}}}}), {"`quantization`"}},
      {with(llama(), {{"is_causal", false}}), {"is_causal", "later tokens"}},
      {with(llama(), {{"use_bidirectional_attention", true}}), {"use_bidirectional_attention"}},
      {with(llama(), {{"rope_scaling", {{"factor", 2.0}}}}),
       {"rope_scaling", "factor", "rope_type"}},
      {with(llama(), {{"rope_parameters", {{"factor", 2.0}, {"rope_theta", 1e6}}}}),
       {"rope_parameters", "factor", "rope_type"}},
      {with(llama(), {{"dual_chunk_attention_config", 3}}), {"dual_chunk_attention_config"}},
      {with(mistral(), {{"sliding_window", 4096}}), {"sliding_window", "4096"}},
      {with(mistral(), {{"sliding_window", "-"}}), {"sliding_window", "default"}},
      {with(qwen2(), {{"use_sliding_window", true}, {"sliding_window", 1024}}),
       {"use_sliding_window", "1024"}},
      {with(qwen3(), {{"use_sliding_window", true}}), {"use_sliding_window", "4096"}},
      {with(qwen3(), {{"layer_types", {"full_attention", "sliding_attention"}}}),
       {"layer_types", "sliding_attention"}},
      {with(qwen3(), {{"layer_types", 3}}), {"layer_types"}},
      {with(llama(), {{"hidden_act", "gelu"}}), {"hidden_act", "gelu", "silu"}},
      {with(llama(), {{"attention_bias", true}}), {"attention_bias", "self_attn.o_proj.bias"}},
      {with(qwen3(), {{"attention_bias", true}}), {"attention_bias"}},
      {with(llama(), {{"mlp_bias", true}}), {"mlp_bias"}},
      {with(llama(), {{"mlp_bias", "yes"}}), {"mlp_bias", "not true or false"}},
      {with(llama(), {{"vocab_size", "-"}}), {"vocab_size", "missing"}},
      {with(llama(), {{"hidden_size", "-"}}), {"hidden_size", "missing"}},
      {with(llama(), {{"hidden_size", "256"}}), {"hidden_size", "not an integer"}},
      {with(llama(), {{"hidden_size", 256.5}}), {"hidden_size", "not an integer"}},
      {with(llama(), {{"hidden_size", 0}}), {"hidden_size", "outside"}},
      {with(llama(), {{"hidden_size", -256}}), {"hidden_size", "outside"}},
      {with(llama(), {{"hidden_size", 1 << 24}}), {"hidden_size", "outside"}},
      {with(llama(), {{"vocab_size", 18446744073709551615U}}), {"vocab_size", "outside"}},
      {with(llama(), {{"num_hidden_layers", 1000000}}), {"num_hidden_layers", "outside"}},
      {with(llama(), {{"intermediate_size", nullptr}}), {"intermediate_size", "missing"}},
      {with(llama(), {{"num_key_value_heads", 3}}), {"num_key_value_heads", "divide"}},
      {with(qwen2(), {{"num_key_value_heads", "-"}}), {"num_key_value_heads", "32"}},
      {with(llama(), {{"num_attention_heads", 6}}), {"num_attention_heads", "hidden_size"}},
      {with(llama(), {{"head_dim", 33}}), {"head_dim", "even"}},
      {with(llama(), {{"head_dim", 2048}}), {"head_dim", "outside"}},
      {with(llama(), {{"hidden_size", 32768}}), {"head_dim", "4096"}},
      {with(llama(), {{"rms_norm_eps", "tiny"}}), {"rms_norm_eps", "number"}},
      {with(llama(), {{"rms_norm_eps", -1.0}}), {"rms_norm_eps", "outside"}},
      {with(llama(), {{"power_attention", "on"}}), {"power_attention", "not an object"}},
      {with(llama(), {{"eos_token_id", "</s>"}}), {"eos_token_id", "not an integer"}},
      {with(llama(), {{"eos_token_id", {1, -2}}}), {"eos_token_id", "outside"}},
      {with(llama(), {{"partial_rotary_factor", 0.5}}), {"partial_rotary_factor", "0.5"}},
      {with(llama(), {{"rope_parameters", {{"partial_rotary_factor", 0.25}}}}),
       {"rope_parameters", "partial_rotary_factor"}},
      {with(llama(), {{"rope_parameters", {{"full_attention", {{"rope_theta", 1e6}}}}}}),
       {"full_attention"}},
      {with(llama(), {{"rope_theta", 0}}), {"rope_theta"}},
      {with(llama(), {{"rope_theta", "big"}}), {"rope_theta", "number"}},
      {with(llama(), {{"rope_scaling", 3}}), {"rope_scaling", "object"}},
      {with(llama(), {{"rope_scaling", {{"type", "linear"}}}}), {"factor", "missing"}},
      {with(llama(), {{"rope_scaling", {{"type", "linear"}, {"factor", -2.0}}}}), {"factor"}},
      {with(llama(), {{"rope_scaling", {{"type", 1}}}}), {"type", "string"}},
      {with(llama(), {{"rope_scaling", rope}}), {"high_freq_factor", "missing"}},
      {with(llama(), {{"rope_scaling", with(rope, {{"high_freq_factor", 1.0}})}}),
       {"high_freq_factor", "low_freq_factor"}},
      {with(llama(),
            {{"rope_scaling", {{"type", "yarn"}, {"factor", 4.0}, {"attention_factor", -1.0}}}}),
       {"attention_factor"}},
  };
  for (const Case& c : cases) {
    const std::string message = refusal(c.config.dump());
    EXPECT_NE(message.find("config.json"), std::string::npos) << message;
    for (const std::string& part : c.named) {
      EXPECT_NE(message.find(part), std::string::npos) << part << " in: " << message;
    }
  }
}

TEST(Config, RefusesOtherRotations) {
  for (const std::string type : {"dynamic", "longrope", "su", "mrope", "proportional"}) {
    const json old_spelling = with(llama(), {{"rope_scaling", {{"type", type}, {"factor", 2.0}}}});
    const json spelling = with(llama(), {{"rope_parameters", {{"rope_type", type}}}});
    EXPECT_NE(refusal(old_spelling.dump()).find("`" + type + "` is not supported"),
              std::string::npos);
    EXPECT_NE(refusal(spelling.dump()).find("`" + type + "` is not supported"), std::string::npos);
  }
}

TEST(Config, FilesThatAreNoConfig) {
  EXPECT_NE(refusal("{\"model_type\": ").find("config.json is not valid JSON"), std::string::npos);
  EXPECT_NE(refusal("[1]").find("array"), std::string::npos);
  EXPECT_NE(refusal("").find("config.json"), std::string::npos);
  const test::ScratchFolder empty;
  try {
    load_config(empty);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::input);
    EXPECT_NE(std::string(error.what()).find("config.json"), std::string::npos);
  }
}

TEST(Config, EndTokens) {
  const json config = with(llama(), {{"eos_token_id", 2}});
  EXPECT_EQ(load(config).end_tokens, std::vector<std::int32_t>{2});
  EXPECT_EQ(load(config, R"({"eos_token_id": 7})").end_tokens, std::vector<std::int32_t>{7});
  EXPECT_EQ(load(config, R"({"eos_token_id": [7, 9]})").end_tokens,
            (std::vector<std::int32_t>{7, 9}));
  EXPECT_EQ(load(config, R"({"temperature": 1})").end_tokens, std::vector<std::int32_t>{2});
  EXPECT_EQ(load(config, R"({"eos_token_id": null})").end_tokens, std::vector<std::int32_t>{2});
}

// Only decoding needs it.
TEST(Config, ABrokenGenerationConfigIsNoted) {
  const json config = with(llama(), {{"eos_token_id", 2}});
  EXPECT_EQ(load(config, R"({"eos_token_id": 7})").end_tokens_problem, "");
  const std::vector<std::pair<std::string, std::string>> broken = {
      {"{", "generation_config.json is not valid JSON"},
      {"[]", "array"},
      {R"({"eos_token_id": 4294967296})", "4294967296"},
      {R"({"eos_token_id": 18446744073709551615})", "18446744073709551615"},
      {R"({"eos_token_id": NaN})", "eos_token_id"},
  };
  for (const auto& [text, named] : broken) {
    const ModelConfig c = load(config, text);
    EXPECT_NE(c.end_tokens_problem.find("generation_config"), std::string::npos);
    EXPECT_NE(c.end_tokens_problem.find(named), std::string::npos) << c.end_tokens_problem;
    EXPECT_NE(text_of(c.notes).find(c.end_tokens_problem), std::string::npos);
  }
}

TEST(Config, NotesOnWhatHasNoEffect) {
  EXPECT_EQ(text_of(load(llama()).notes),
            "4096: the prompt is longer than the model's 4096 positions\n");
  struct Case {
    json change;
    std::string noted;  // what is said besides
  };
  const json yarn = {{"type", "yarn"}, {"factor", 4.0}};
  const json chunks = {{"chunk_size", 1024}, {"local_size", 256}};
  const std::vector<Case> cases = {
      {{{"rope_scaling", with(yarn, {{"finetuned", true}, {"attn_factor", 1.0}})}}, ""},
      {{{"rope_scaling", with(yarn, {{"attn_factor", nullptr}})}}, ""},
      {{{"rope_scaling", with(yarn, {{"attn_factor", 0.5}})}},
       "rope_scaling: key `attn_factor` is 0.5"},
      {{{"rope_parameters", {{"rope_type", "default"}, {"factor", 2.0}}}}, "key `factor` is 2.0"},
      {{{"rope_parameters", {{"rope_type", "linear"}, {"factor", 2.0}, {"beta_fast", 32}}}},
       "key `beta_fast` is 32, which the rope type linear does not use"},
      {{{"rope_parameters", {{"mrope_section", {1, 2, 3}}}}}, "key `mrope_section` is [1,2,3]"},
      {{{"dual_chunk_attention_config", chunks}}, "768: the checkpoint's `dual_chunk_attention"},
      {{{"dual_chunk_attention_config", with(chunks, {{"original_max_position_embeddings", 512}})}},
       "512: the checkpoint's `dual_chunk_attention"},
  };
  for (const Case& c : cases) {
    const std::string notes = text_of(load(with(llama(), c.change)).notes);
    EXPECT_NE(notes.find(c.noted), std::string::npos) << notes;
    EXPECT_EQ(std::ranges::count(notes, '\n'), c.noted.empty() ? 1 : 2) << notes;
  }
}

// What Python's json writes, and transformers reads.
TEST(Config, NumbersThatAreNotFinite) {
  const auto text = [](const std::string& config, const std::string& key,
                       const std::string& value) {
    return config.substr(0, config.size() - 1) + ", \"" + key + "\": " + value + "}";
  };
  const std::string other = with(llama(), {{"architectures", {"GemmaForCausalLM"}}}).dump();
  for (const std::string value : {"NaN", "Infinity", "-Infinity", "1e999", "-1e999"}) {
    EXPECT_NE(refusal(text(other, "attention_scale", value)).find("GemmaForCausalLM"),
              std::string::npos);
    EXPECT_EQ(refusal(text(llama().dump(), "attention_scale", value)), "accepted");
    for (const std::string key : {"rms_norm_eps", "rope_theta", "vocab_size", "hidden_size",
                                  "tie_word_embeddings", "eos_token_id", "head_dim"}) {
      const std::string message = refusal(text(llama().dump(), key, value));
      EXPECT_NE(message.find("key `" + key + "`"), std::string::npos) << message;
      EXPECT_NE(message.find(value), std::string::npos) << message;
    }
  }
  EXPECT_EQ(refusal(text(llama().dump(), "comment", R"("NaN, \"Infinity\", 1e999")")), "accepted");
  EXPECT_EQ(refusal(text(llama().dump(), "rms_norm_eps", "1e-999")), "accepted");
  EXPECT_NE(refusal(text(llama().dump(), "x", "NaNs")).find("not valid JSON"), std::string::npos);
  EXPECT_NE(refusal(text(llama().dump(), "x", "+Infinity")).find("not valid"), std::string::npos);
}

TEST(Config, PowerAttentionIsKeptAsJson) {
  const json power = {{"pattern", "power"}, {"window", 5}};
  EXPECT_EQ(json::parse(load(with(llama(), {{"power_attention", power}})).power_attention), power);
}

TEST(Config, BothRopeSpellingsAreOne) {
  const json scaling = {{"factor", 8.0},
                        {"low_freq_factor", 1.0},
                        {"high_freq_factor", 4.0},
                        {"original_max_position_embeddings", 8192}};
  const auto typed = [&](const char* key) { return with(scaling, {{key, "llama3"}}); };
  const std::vector<json> spellings = {
      with(llama(), {{"rope_theta", 5e5}, {"rope_scaling", typed("type")}}),
      with(llama(), {{"rope_theta", 500000}, {"rope_scaling", typed("rope_type")}}),
      with(llama(), {{"rope_parameters", with(typed("rope_type"), {{"rope_theta", 5e5}})}}),
      with(llama(), {{"rope_theta", 5e5},
                     {"rope_scaling", nullptr},
                     {"rope_parameters", typed("rope_type")}}),
  };
  for (const json& spelling : spellings) {
    const ModelConfig c = load(spelling);
    EXPECT_EQ(rope_to_json(c.rope),
              R"({"factor":8.0,"high_freq_factor":4.0,"low_freq_factor":1.0,)"
              R"("original_max_position_embeddings":8192,"rope_theta":500000.0,)"
              R"("rope_type":"llama3"})");
    EXPECT_EQ(fingerprint_of(c), fingerprint_of(load(spellings[0])));
  }
}

TEST(Config, RopeTypes) {
  const ModelConfig plain = load(with(llama(), {{"rope_parameters", json::object()}}));
  EXPECT_EQ(rope_to_json(plain.rope), R"({"rope_theta":10000.0,"rope_type":"default"})");
  const ModelConfig linear =
      load(with(llama(), {{"rope_scaling", {{"type", "linear"}, {"factor", 2}}}}));
  EXPECT_EQ(rope_to_json(linear.rope),
            R"({"factor":2.0,"rope_theta":10000.0,"rope_type":"linear"})");
  const ModelConfig yarn =
      load(with(qwen2(), {{"rope_scaling", {{"type", "yarn"}, {"factor", 4.0}}}}));
  EXPECT_EQ(rope_to_json(yarn.rope),
            R"({"beta_fast":32.0,"beta_slow":1.0,"factor":4.0,)"
            R"("original_max_position_embeddings":4096,"rope_theta":10000.0,)"
            R"("rope_type":"yarn","truncate":true})");
  const RopeParameters all = load(with(qwen2(), {{"rope_scaling",
                                                  {{"rope_type", "yarn"},
                                                   {"factor", nullptr},
                                                   {"original_max_position_embeddings", 1024},
                                                   {"attention_factor", 1.25},
                                                   {"beta_fast", 16},
                                                   {"beta_slow", 2},
                                                   {"mscale", 0.5},
                                                   {"mscale_all_dim", 0.25},
                                                   {"truncate", false}}}}))
                                 .rope;
  EXPECT_EQ(all.factor, 4.0);  // 4096 / 1024
  EXPECT_EQ(all.original_max_positions, 1024);
  EXPECT_EQ(all.attention_factor, 1.25);
  EXPECT_EQ(all.beta_fast, 16.0);
  EXPECT_EQ(all.beta_slow, 2.0);
  EXPECT_EQ(all.mscale, 0.5);
  EXPECT_EQ(all.mscale_all_dim, 0.25);
  EXPECT_FALSE(all.truncate);
}

TEST(Config, FingerprintCoversWhatChangesTheResult) {
  const std::string plain = fingerprint_of(load(llama()));
  EXPECT_EQ(plain.size(), 16U);
  const std::vector<json> same = {{{"transformers_version", "5.0.0"}},
                                  {{"torch_dtype", "bfloat16"}},
                                  {{"rope_theta", 10000}},
                                  {{"rms_norm_eps", 1e-6}},
                                  {{"max_position_embeddings", 9999}},
                                  {{"eos_token_id", 1}},
                                  {{"head_dim", 32}}};
  for (const json& change : same) {
    EXPECT_EQ(fingerprint_of(load(with(llama(), change))), plain) << change;
  }
  const std::vector<json> other = {
      {{"vocab_size", 1001}},       {{"hidden_size", 512}},
      {{"num_hidden_layers", 4}},   {{"num_key_value_heads", 4}},
      {{"intermediate_size", 513}}, {{"head_dim", 64}},
      {{"rms_norm_eps", 1e-5}},     {{"tie_word_embeddings", true}},
      {{"rope_theta", 10001}},      {{"num_attention_heads", 16}, {"head_dim", 32}}};
  for (const json& change : other) {
    EXPECT_NE(fingerprint_of(load(with(llama(), change))), plain) << change;
  }
  EXPECT_NE(fingerprint_of(load(qwen2())), plain);
}

TEST(Config, RecipesAndTensors) {
  for (const json& config : {llama(), mistral(), qwen2(), qwen3()}) {
    const ModelConfig c = load(config);
    ASSERT_EQ(c.recipe.layers.size(), 3U);
    ASSERT_EQ(c.recipe.ropes.size(), 1U);
    EXPECT_EQ(std::ssize(c.recipe.ropes[0].inv_freq), c.head_dim / 2);
    for (const LayerRecipe& layer : c.recipe.layers) {
      EXPECT_EQ(layer.heads, 8);
      EXPECT_EQ(layer.group(), 4);
      EXPECT_EQ(layer.rope, 0);
      EXPECT_EQ(layer.score_scale, 1.0F / std::sqrt(static_cast<float>(c.head_dim)));
    }
    ASSERT_EQ(c.tensors.layers.size(), 3U);
    const LayerTensors& layer = c.tensors.layers[1];
    EXPECT_EQ(layer.query[0].name, "model.layers.1.self_attn.q_proj.weight");
    EXPECT_EQ(layer.query[0].shape, (std::vector<std::int64_t>{8 * c.head_dim, 256}));
    ASSERT_EQ(layer.key_value.size(), 2U);
    EXPECT_EQ(layer.key_value[1].name, "model.layers.1.self_attn.v_proj.weight");
    EXPECT_EQ(layer.down[0].shape, (std::vector<std::int64_t>{256, 512}));
    EXPECT_EQ(layer.query_bias.empty(), c.family != "qwen2");
    EXPECT_EQ(layer.q_norm.empty(), c.family != "qwen3");
  }
}

}  // namespace
}  // namespace powerprefill
