#include "model/weights.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cstring>
#include <optional>
#include <set>
#include <string_view>
#include <variant>

#include "base/aligned_buffer.hpp"
#include "base/checked.hpp"
#include "base/hash.hpp"
#include "math/bf16_matmul.hpp"
#include "math/row_ops.hpp"
#include "model/checkpoint.hpp"

namespace powerprefill {

namespace {

// Tensors are converted and hashed in pieces of this many elements, the last one shorter. The
// fingerprint is made of the pieces' hashes, so the size is part of its definition.
constexpr std::int64_t kPieceElements = std::int64_t{1} << 20;
constexpr std::int64_t kAlignment = 64;  // bytes

struct Part {
  std::string name;
  std::vector<std::int64_t> shape;
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
  std::int64_t elements = 0;
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
Layout lay_out(const Checkpoint& checkpoint, const std::vector<View>& views, Compute compute) {
  Layout layout;
  for (const View& view : views) {
    Placed placed = {.view = view, .offset = layout.bytes, .first_source = layout.sources.size()};
    const Form form = form_of(view, compute);
    for (const Part& part : view.parts) {
      const Checkpoint::Tensor tensor = checkpoint.find(part.name, part.shape);
      const auto elements = static_cast<std::int64_t>(tensor.bytes.size() / bytes_of(tensor.dtype));
      layout.sources.push_back(
          {part.name, part.shape, tensor, elements, form, placed.offset + placed.bytes});
      placed.bytes += elements * static_cast<std::int64_t>(sizeof(float));
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

// Tensors that are not used are harmless (buffers of older versions, layers beyond the last), but
// for a bias or a norm: with it the model would compute something else.
void refuse_ignored_parameters(const Checkpoint& checkpoint, const Layout& layout,
                               const ModelConfig& config) {
  std::set<std::string_view> used;
  for (const Source& source : layout.sources) used.insert(source.name);
  for (const std::string& name : checkpoint.names()) {
    const bool in_model = name.starts_with("model.") || name.starts_with("lm_head.");
    const bool changes = name.ends_with(".bias") || name.ends_with("norm.weight");
    if (!in_model || !changes || used.contains(name) || layer_of(name) >= config.layers) continue;
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
    const std::int64_t elements = sources[source].elements;
    for (std::int64_t begin = 0; begin < elements; begin += kPieceElements) {
      pieces.push_back({source, begin, std::min(kPieceElements, elements - begin)});
    }
  }
  return pieces;
}

// The file gives no alignment, hence the copy of each element.
template <typename Convert>
void convert_halves(const std::byte* from, std::int64_t count, float* to, Convert convert) {
  for (std::int64_t i = 0; i < count; ++i) {
    std::uint16_t bits = 0;
    std::memcpy(&bits, from + 2 * i, sizeof bits);
    to[i] = convert(bits);
  }
}

void convert(DType dtype, std::span<const std::byte> from, std::int64_t count, float* to) {
  switch (dtype) {
    case DType::f32:
      std::memcpy(to, from.data(), from.size());
      return;
    case DType::bf16:
      convert_halves(from.data(), count, to, f32_from_bf16);
      return;
    case DType::f16:
      convert_halves(from.data(), count, to, f32_from_f16);
      return;
  }
}

// Writes the values of a piece to `memory`, unless they are packed later, and returns the hash of
// its bytes.
std::uint64_t load_piece(const Piece& piece, const Source& source, std::byte* memory) {
  const std::size_t width = bytes_of(source.tensor.dtype);
  const std::span<const std::byte> bytes = source.tensor.bytes.subspan(
      static_cast<std::size_t>(piece.begin) * width, static_cast<std::size_t>(piece.count) * width);
  will_read(bytes);
  const std::uint64_t hash = hash_of(bytes);
  if (source.form != Form::packed) {
    float* to = reinterpret_cast<float*>(memory + source.offset) + piece.begin;
    convert(source.tensor.dtype, bytes, piece.count, to);
    if (source.form == Form::bf16_in_f32) round_to_bf16_in_f32(to, piece.count, to);
  }
  have_read(bytes);
  return hash;
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
void load_panel(const Panel& panel, const Layout& layout, std::byte* memory) {
  const Placed& matrix = *panel.matrix;
  const PackedShape shape(matrix.inputs, matrix.outputs);
  const std::int64_t count = shape.outputs_of(panel.number);
  AlignedBuffer<std::uint16_t> rows(count * matrix.inputs);
  std::vector<float> wide(static_cast<std::size_t>(matrix.inputs));
  std::size_t source = matrix.first_source;
  std::int64_t row = shape.first_output(panel.number);  // of `source`
  for (std::int64_t r = 0; r < count; ++r, ++row) {
    while (row >= layout.sources[source].shape.front())
      row -= layout.sources[source++].shape.front();
    const Checkpoint::Tensor& tensor = layout.sources[source].tensor;
    const std::size_t bytes = static_cast<std::size_t>(matrix.inputs) * bytes_of(tensor.dtype);
    const auto from = tensor.bytes.subspan(static_cast<std::size_t>(row) * bytes, bytes);
    std::uint16_t* to = rows.data() + r * matrix.inputs;
    if (tensor.dtype == DType::bf16) {
      std::memcpy(to, from.data(), bytes);
    } else {
      convert(tensor.dtype, from, matrix.inputs, wide.data());
      round_to_bf16(wide.data(), matrix.inputs, to);
    }
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

// The first piece of each rank, and the end: an even, contiguous split.
std::vector<std::int64_t> split(std::size_t pieces, int ranks) {
  std::vector<std::int64_t> bounds;
  for (int rank = 0; rank <= ranks; ++rank) {
    bounds.push_back(static_cast<std::int64_t>(pieces) * rank / ranks);
  }
  return bounds;
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
  std::vector<View> views;
  const std::vector<std::int64_t> table = {config.vocabulary, config.hidden};
  views.push_back({&weights.embedding_, {{"model.embed_tokens.weight", table}}});
  for (std::int64_t i = 0; i < config.layers; ++i) {
    add_layer_views(config, i, weights.layers_[static_cast<std::size_t>(i)], views);
  }
  views.push_back({&weights.final_norm_, {{"model.norm.weight", {config.hidden}}}});
  if (!config.tied_embeddings) {
    views.push_back({&weights.output_head_, {{"lm_head.weight", table}}});
  }

  std::optional<Checkpoint> checkpoint;
  Layout layout;
  node.agree([&] {
    checkpoint.emplace(folder);
    layout = lay_out(*checkpoint, views, compute);
    refuse_ignored_parameters(*checkpoint, layout, config);
  });

  weights.memory_ =
      mpi::SharedMemory(node, layout.bytes, placement.store, placement.scratch_folder);
  std::byte* memory = weights.memory_.bytes().data();
  for (const Placed& placed : layout.placed) set_view(placed, compute, memory);
  if (config.tied_embeddings) weights.output_head_ = weights.embedding_;

  const std::vector<Piece> pieces = cut(layout.sources);
  const std::vector<std::int64_t> bounds = split(pieces.size(), node.size());
  const auto rank = static_cast<std::size_t>(node.rank());
  const std::int64_t first = bounds[rank];
  std::vector<std::uint64_t> mine(static_cast<std::size_t>(bounds[rank + 1] - first));
  node.agree([&] {
    pool.run(static_cast<std::int64_t>(mine.size()), [&](std::int64_t i, int) {
      const Piece& piece = pieces[static_cast<std::size_t>(first + i)];
      mine[static_cast<std::size_t>(i)] = load_piece(piece, layout.sources[piece.source], memory);
    });
  });
  weights.fingerprint_ = fingerprint_from(layout.sources, pieces, exchange(node, mine, bounds));
  const std::vector<Panel> panels = panels_of(layout);
  const std::vector<std::int64_t> shares = split(panels.size(), node.size());
  node.agree([&] {
    pool.run(shares[rank + 1] - shares[rank], [&](std::int64_t i, int) {
      load_panel(panels[static_cast<std::size_t>(shares[rank] + i)], layout, memory);
    });
  });
  node.barrier();
  return weights;
}

}  // namespace powerprefill
