#include "model/weights/weights.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <charconv>
#include <cstring>
#include <optional>
#include <set>
#include <string_view>
#include <variant>

#include "base/aligned_buffer.hpp"
#include "base/checked.hpp"
#include "base/hash.hpp"
#include "math/linear/bf16_matmul.hpp"
#include "math/rows/convert.hpp"
#include "math/rows/row_ops.hpp"
#include "model/sources/checkpoint.hpp"

namespace powerprefill {

namespace {

// Tensors are converted and hashed in pieces of this many elements, the last one shorter. The
// fingerprint is made of the pieces' hashes, so the size is part of its definition.
constexpr std::int64_t kPieceElements = std::int64_t{1} << 20;
// A piece is read in slices of so many, which stay in a core's own cache.
constexpr std::int64_t kSliceElements = std::int64_t{1} << 16;
constexpr std::int64_t kAlignment = 64;  // bytes

const std::string kEmbedding = "model.embed_tokens.weight";
const std::string kOutputHead = "lm_head.weight";

struct Part {
  std::string name;
  std::vector<std::int64_t> shape;
};

// The tensors at both ends of the model; no output head when the embedding is it.
struct Tables {
  std::string embedding = kEmbedding;
  std::string output_head;
};

// A vector or a matrix of the result, and the tensors that follow each other in it.
struct View {
  std::variant<std::span<const float>*, WeightMatrix*> target;
  std::vector<Part> parts;
};

void add_layer_views(const ModelConfig& c, std::int64_t index, LayerWeights& layer,
                     std::vector<View>& views) {
  const std::string prefix = fmt::format("model.layers.{}.", index);
  const std::string attention = prefix + "self_attn.";
  const std::string mlp = prefix + "mlp.";
  const std::int64_t q_rows = c.heads * c.head_dim;
  const std::int64_t kv_rows = c.kv_heads * c.head_dim;
  views.push_back({&layer.input_norm, {{prefix + "input_layernorm.weight", {c.hidden}}}});
  views.push_back({&layer.query, {{attention + "q_proj.weight", {q_rows, c.hidden}}}});
  views.push_back({&layer.key_value,
                   {{attention + "k_proj.weight", {kv_rows, c.hidden}},
                    {attention + "v_proj.weight", {kv_rows, c.hidden}}}});
  if (c.qkv_bias) {
    views.push_back({&layer.query_bias, {{attention + "q_proj.bias", {q_rows}}}});
    views.push_back(
        {&layer.key_value_bias,
         {{attention + "k_proj.bias", {kv_rows}}, {attention + "v_proj.bias", {kv_rows}}}});
  }
  if (c.qk_norm) {
    views.push_back({&layer.q_norm, {{attention + "q_norm.weight", {c.head_dim}}}});
    views.push_back({&layer.k_norm, {{attention + "k_norm.weight", {c.head_dim}}}});
  }
  views.push_back({&layer.attention_out, {{attention + "o_proj.weight", {c.hidden, q_rows}}}});
  views.push_back({&layer.post_norm, {{prefix + "post_attention_layernorm.weight", {c.hidden}}}});
  views.push_back({&layer.gate, {{mlp + "gate_proj.weight", {c.feed_forward, c.hidden}}}});
  views.push_back({&layer.up, {{mlp + "up_proj.weight", {c.feed_forward, c.hidden}}}});
  views.push_back({&layer.down, {{mlp + "down_proj.weight", {c.hidden, c.feed_forward}}}});
}

// How the values of a tensor are stored.
enum class Form { f32, bf16_in_f32, packed };

// A tensor of the checkpoint, and where its values go.
struct Source {
  std::string name;
  std::vector<std::int64_t> shape;
  Checkpoint::Tensor tensor;
  Form form = Form::f32;
  std::int64_t offset = 0;  // bytes into the shared memory; not of packed ones
};

struct Placed {
  View view;
  std::int64_t offset = 0;  // bytes
  std::int64_t bytes = 0;
  std::size_t first_source = 0;
  std::int64_t inputs = 0;  // of a matrix
  std::int64_t outputs = 0;
};

struct Layout {
  std::vector<Source> sources;
  std::vector<Placed> placed;
  std::int64_t bytes = 0;
};

Form form_of(const View& view, Compute compute) {
  if (std::holds_alternative<std::span<const float>*>(view.target)) return Form::f32;
  return compute == Compute::f32    ? Form::f32
         : compute == Compute::bf16 ? Form::packed
                                    : Form::bf16_in_f32;
}

// Finds all tensors. No size is used before the checkpoint proved to hold as many bytes.
Layout lay_out(Checkpoint& checkpoint, const std::vector<View>& views, Compute compute) {
  Layout layout;
  for (const View& view : views) {
    Placed placed = {.view = view, .offset = layout.bytes, .first_source = layout.sources.size()};
    const Form form = form_of(view, compute);
    for (const Part& part : view.parts) {
      const Checkpoint::Tensor tensor = checkpoint.find(part.name, part.shape);
      layout.sources.push_back({part.name, part.shape, tensor, form, placed.offset + placed.bytes});
      placed.bytes += tensor.elements * static_cast<std::int64_t>(sizeof(float));
      placed.inputs = part.shape.back();
      placed.outputs += part.shape.front();
    }
    if (form == Form::packed) placed.bytes = PackedShape(placed.inputs, placed.outputs).bytes();
    layout.bytes = round_up(placed.offset + placed.bytes, kAlignment);
    layout.placed.push_back(std::move(placed));
  }
  return layout;
}

// The layer in "model.layers.12.mlp...", or -1.
std::int64_t layer_of(std::string_view name) {
  constexpr std::string_view prefix = "model.layers.";
  std::int64_t layer = -1;
  if (!name.starts_with(prefix)) return layer;
  std::from_chars(name.data() + prefix.size(), name.data() + name.size(), layer);
  return layer;
}

// What older versions saved beside the parameters: tables of RoPE, and causal masks.
bool is_buffer(std::string_view name) {
  constexpr std::array<std::string_view, 3> endings = {".masked_bias", ".attn.bias",
                                                       ".position_ids"};
  return name.find(".rotary_emb.") != std::string_view::npos ||
         std::ranges::any_of(endings, [&](std::string_view end) { return name.ends_with(end); });
}

// A model with a tensor that is not used would compute something else, but for buffers, and layers
// beyond the last, which only predict further tokens.
void refuse_ignored_tensors(const Checkpoint& checkpoint, const Layout& layout,
                            const ModelConfig& config) {
  std::set<std::string_view> used;
  if (config.tied_embeddings) used = {kEmbedding, kOutputHead};  // one may be the other's copy
  for (const Source& source : layout.sources) used.insert(source.name);
  for (const std::string& name : checkpoint.names()) {
    const bool in_model = name.starts_with("model.") || name.starts_with("lm_head.");
    if (!in_model || used.contains(name) || is_buffer(name) || layer_of(name) >= config.layers) {
      continue;
    }
    throw Error(ErrorCode::input,
                fmt::format("{} has the tensor {}, which a model of the kind that config.json "
                            "describes ({}) does not have; the two do not belong together",
                            checkpoint.file_of(name).string(), name, config.family));
  }
}

struct Piece {
  std::size_t source = 0;
  std::int64_t begin = 0;  // elements into the tensor
  std::int64_t count = 0;
};

std::vector<Piece> cut(const std::vector<Source>& sources) {
  std::vector<Piece> pieces;
  for (std::size_t source = 0; source < sources.size(); ++source) {
    const std::int64_t elements = sources[source].tensor.elements;
    for (std::int64_t begin = 0; begin < elements; begin += kPieceElements) {
      pieces.push_back({source, begin, std::min(kPieceElements, elements - begin)});
    }
  }
  return pieces;
}

// The first piece of each rank, and the end: an even, contiguous split.
std::vector<std::int64_t> split(std::size_t pieces, int ranks) {
  std::vector<std::int64_t> bounds;
  for (int rank = 0; rank <= ranks; ++rank) {
    bounds.push_back(static_cast<std::int64_t>(pieces) * rank / ranks);
  }
  return bounds;
}

// The elements [begin, begin + count) of a tensor, as they are stored.
std::span<const std::byte> read_elements(const Checkpoint::Tensor& tensor, std::int64_t begin,
                                         std::int64_t count, AlignedBuffer<std::byte>& buffer) {
  const auto width = static_cast<std::int64_t>(bytes_of(tensor.dtype));
  if (std::cmp_less(buffer.size(), count * width)) buffer = AlignedBuffer<std::byte>(count * width);
  const auto bytes = buffer.span().first(static_cast<std::size_t>(count * width));
  tensor.file->read(tensor.offset + begin * width, bytes);
  return bytes;
}

// An untied embedding's rows may belong to tokens that never come; the others enter every result.
bool must_be_finite(const Source& source, const Tables& tables) {
  return source.name != tables.embedding || tables.output_head.empty();
}

void require_finite(const Source& source, std::span<const std::byte> bytes, std::int64_t begin) {
  const DType dtype = source.tensor.dtype;
  const std::size_t width = bytes_of(dtype);
  if (are_finite(dtype, bytes)) return;
  std::size_t at = 0;
  while (are_finite(dtype, bytes.subspan(at * width, width))) ++at;
  const std::int64_t element = begin + static_cast<std::int64_t>(at);
  const std::int64_t columns = source.shape.back();
  const std::int64_t layer = layer_of(source.name);
  throw Error(
      ErrorCode::input,
      fmt::format("{}tensor {} in {} is not finite: row {}, column {} is not a finite number, and "
                  "every token would meet it; the file is damaged, fetch it again",
                  layer >= 0 ? fmt::format("layer {}: ", layer) : "", source.name,
                  source.tensor.file->path().string(),
                  source.shape.size() > 1 ? element / columns : 0, element % columns));
}

// Writes the values of a piece to `memory`, unless they are packed later, and returns the hash of
// its bytes.
std::uint64_t load_piece(const Piece& piece, const Source& source, bool check, std::byte* memory,
                         AlignedBuffer<std::byte>& buffer) {
  const auto width = static_cast<std::int64_t>(bytes_of(source.tensor.dtype));
  source.tensor.file->will_read(source.tensor.offset + piece.begin * width, piece.count * width);
  Hasher hasher;
  const std::int64_t end = piece.begin + piece.count;
  for (std::int64_t begin = piece.begin; begin < end; begin += kSliceElements) {
    const std::int64_t count = std::min(kSliceElements, end - begin);
    const auto bytes = read_elements(source.tensor, begin, count, buffer);
    hasher.update(bytes);
    if (check) require_finite(source, bytes, begin);
    if (source.form == Form::packed) continue;
    float* to = reinterpret_cast<float*>(memory + source.offset) + begin;
    widen(source.tensor.dtype, bytes.data(), {to, static_cast<std::size_t>(count)});
    if (source.form == Form::bf16_in_f32) round_to_bf16_in_f32(to, count, to);
  }
  return hasher.digest();
}

// Whether two tensors hold the same values; their parts are compared by all ranks and threads.
bool are_equal(const Checkpoint::Tensor& a, const Checkpoint::Tensor& b,
               const mpi::Communicator& node, ThreadPool& pool) {
  const std::int64_t slices = ceil_div(a.elements, kSliceElements);
  const std::vector<std::int64_t> bounds = split(static_cast<std::size_t>(slices), node.size());
  const auto rank = static_cast<std::size_t>(node.rank());
  std::atomic<bool> equal = true;
  node.agree([&] {
    pool.run(bounds[rank + 1] - bounds[rank], [&](std::int64_t i, int) {
      if (!equal) return;
      const std::int64_t begin = (bounds[rank] + i) * kSliceElements;
      const std::int64_t count = std::min(kSliceElements, a.elements - begin);
      std::array<std::vector<float>, 2> values;
      for (std::size_t side = 0; side < 2; ++side) {
        const Checkpoint::Tensor& tensor = side == 0 ? a : b;
        AlignedBuffer<std::byte> buffer;
        values[side].resize(static_cast<std::size_t>(count));
        widen(tensor.dtype, read_elements(tensor, begin, count, buffer).data(), values[side]);
      }
      if (values[0] != values[1]) equal = false;
    });
  });
  return node.min(std::int64_t{equal ? 1 : 0}) == 1;
}

// As in transformers, tied embeddings are one table under either name, but two where the checkpoint
// holds two that differ.
Tables find_tables(Checkpoint& checkpoint, const ModelConfig& config, const mpi::Communicator& node,
                   ThreadPool& pool) {
  if (!config.tied_embeddings) return {kEmbedding, kOutputHead};
  if (!checkpoint.contains(kOutputHead)) return {kEmbedding, ""};
  if (!checkpoint.contains(kEmbedding)) return {kOutputHead, ""};
  std::array<Checkpoint::Tensor, 2> both;
  node.agree([&] {
    const std::vector<std::int64_t> shape = {config.vocabulary, config.hidden};
    both = {checkpoint.find(kEmbedding, shape), checkpoint.find(kOutputHead, shape)};
  });
  return {kEmbedding, are_equal(both[0], both[1], node, pool) ? "" : kOutputHead};
}

struct Panel {
  const Placed* matrix = nullptr;
  std::int64_t number = 0;
};

std::vector<Panel> panels_of(const Layout& layout) {
  std::vector<Panel> panels;
  for (const Placed& placed : layout.placed) {
    if (layout.sources[placed.first_source].form != Form::packed) continue;
    const PackedShape shape(placed.inputs, placed.outputs);
    for (std::int64_t i = 0; i < shape.panels(); ++i) panels.push_back({&placed, i});
  }
  return panels;
}

// Rounds the rows of a panel to bf16 and packs them.
void load_panel(const Panel& panel, const Layout& layout, std::byte* memory,
                AlignedBuffer<std::byte>& buffer) {
  const Placed& matrix = *panel.matrix;
  const PackedShape shape(matrix.inputs, matrix.outputs);
  const std::int64_t count = shape.outputs_of(panel.number);
  AlignedBuffer<std::uint16_t> rows(count * matrix.inputs);
  std::vector<float> wide;
  std::size_t source = matrix.first_source;
  std::int64_t row = shape.first_output(panel.number);  // of `source`
  for (std::int64_t done = 0; done < count;) {
    while (row >= layout.sources[source].shape.front())
      row -= layout.sources[source++].shape.front();
    const std::int64_t run = std::min(count - done, layout.sources[source].shape.front() - row);
    const Checkpoint::Tensor& tensor = layout.sources[source].tensor;
    const auto bytes = read_elements(tensor, row * matrix.inputs, run * matrix.inputs, buffer);
    std::uint16_t* to = rows.data() + done * matrix.inputs;
    if (tensor.dtype == DType::bf16) {
      std::memcpy(to, bytes.data(), bytes.size());
    } else {
      wide.resize(static_cast<std::size_t>(run * matrix.inputs));
      widen(tensor.dtype, bytes.data(), wide);
      round_to_bf16(wide.data(), run * matrix.inputs, to);
    }
    done += run;
    row += run;
  }
  pack_panel(shape, panel.number, rows.data(), memory + matrix.offset + shape.offset(panel.number));
}

void set_view(const Placed& placed, Compute compute, const std::byte* memory) {
  const std::span<const float> values = {reinterpret_cast<const float*>(memory + placed.offset),
                                         static_cast<std::size_t>(placed.bytes) / sizeof(float)};
  if (auto* const* vector = std::get_if<std::span<const float>*>(&placed.view.target)) {
    **vector = values;
    return;
  }
  WeightMatrix& matrix = *std::get<WeightMatrix*>(placed.view.target);
  matrix.compute = compute;
  if (compute == Compute::bf16) {
    matrix.packed = {memory + placed.offset, static_cast<std::size_t>(placed.bytes)};
  } else {
    matrix.values = values;
  }
}

// Every rank gets the hashes of all pieces.
std::vector<std::uint64_t> exchange(const mpi::Communicator& node, std::span<std::uint64_t> mine,
                                    const std::vector<std::int64_t>& bounds) {
  std::vector<std::uint64_t> all(static_cast<std::size_t>(bounds.back()));
  std::vector<int> bytes;
  for (std::size_t rank = 0; rank + 1 < bounds.size(); ++rank) {
    bytes.push_back(
        checked_cast<int>(checked_mul(bounds[rank + 1] - bounds[rank], sizeof(std::uint64_t))));
  }
  node.all_gather(std::as_bytes(mine), std::as_writable_bytes(std::span(all)), bytes);
  return all;
}

std::string fingerprint_from(const std::vector<Source>& sources, const std::vector<Piece>& pieces,
                             std::span<const std::uint64_t> hashes) {
  std::vector<std::string> lines;
  for (const Source& source : sources) {
    lines.push_back(fmt::format("{} {} ({})", source.name, name_of(source.tensor.dtype),
                                fmt::join(source.shape, ", ")));
  }
  for (std::size_t i = 0; i < pieces.size(); ++i) {
    lines[pieces[i].source].append(1, ' ').append(hex_of(hashes[i]));
  }
  std::ranges::sort(lines);
  return hex_of(hash_of(fmt::format("{}", fmt::join(lines, "\n"))));
}

}  // namespace

Weights Weights::load(const std::filesystem::path& folder, const ModelConfig& config,
                      Compute compute, const mpi::Communicator& node, ThreadPool& pool,
                      const Placement& placement) {
  Weights weights;
  weights.compute_ = compute;
  weights.layers_.resize(static_cast<std::size_t>(config.layers));
  std::optional<Checkpoint> checkpoint;
  node.agree([&] { checkpoint.emplace(folder); });
  const Tables tables = find_tables(*checkpoint, config, node, pool);
  std::vector<View> views;
  const std::vector<std::int64_t> table = {config.vocabulary, config.hidden};
  views.push_back({&weights.embedding_, {{tables.embedding, table}}});
  for (std::int64_t i = 0; i < config.layers; ++i) {
    add_layer_views(config, i, weights.layers_[static_cast<std::size_t>(i)], views);
  }
  views.push_back({&weights.final_norm_, {{"model.norm.weight", {config.hidden}}}});
  if (!tables.output_head.empty()) {
    views.push_back({&weights.output_head_, {{tables.output_head, table}}});
  }

  Layout layout;
  node.agree([&] {
    layout = lay_out(*checkpoint, views, compute);
    refuse_ignored_tensors(*checkpoint, layout, config);
  });

  weights.memory_ =
      mpi::SharedMemory::make(node, layout.bytes, placement.store, placement.scratch_folder);
  std::byte* memory = weights.memory_.bytes().data();
  for (const Placed& placed : layout.placed) set_view(placed, compute, memory);
  if (tables.output_head.empty()) weights.output_head_ = weights.embedding_;

  const std::vector<Piece> pieces = cut(layout.sources);
  const std::vector<std::int64_t> bounds = split(pieces.size(), node.size());
  const auto rank = static_cast<std::size_t>(node.rank());
  const std::int64_t first = bounds[rank];
  std::vector<std::uint64_t> mine(static_cast<std::size_t>(bounds[rank + 1] - first));
  std::vector<AlignedBuffer<std::byte>> buffers(static_cast<std::size_t>(pool.threads()));
  node.agree([&] {
    pool.run(static_cast<std::int64_t>(mine.size()), [&](std::int64_t i, int thread) {
      const Piece& piece = pieces[static_cast<std::size_t>(first + i)];
      const Source& source = layout.sources[piece.source];
      mine[static_cast<std::size_t>(i)] =
          load_piece(piece, source, must_be_finite(source, tables), memory,
                     buffers[static_cast<std::size_t>(thread)]);
    });
  });
  weights.fingerprint_ = fingerprint_from(layout.sources, pieces, exchange(node, mine, bounds));
  const std::vector<Panel> panels = panels_of(layout);
  const std::vector<std::int64_t> shares = split(panels.size(), node.size());
  node.agree([&] {
    pool.run(shares[rank + 1] - shares[rank], [&](std::int64_t i, int thread) {
      load_panel(panels[static_cast<std::size_t>(shares[rank] + i)], layout, memory,
                 buffers[static_cast<std::size_t>(thread)]);
    });
    checkpoint->require_unchanged();
  });
  node.barrier();
  return weights;
}

}  // namespace powerprefill
