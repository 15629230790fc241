#include "model/weights/weight_loader.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <span>
#include <vector>

#include "base/aligned_buffer.hpp"
#include "base/checked.hpp"
#include "base/hash.hpp"
#include "base/part.hpp"
#include "math/rows/convert.hpp"

namespace powerprefill {

namespace {

// Tensors are converted and hashed in pieces of this many elements, the last one shorter. The
// fingerprint is made of the pieces' hashes, so the size is part of its definition.
constexpr std::int64_t kPieceElements = std::int64_t{1} << 20;
// A piece is read in slices of so many, which stay in a core's own cache.
constexpr std::int64_t kSliceElements = std::int64_t{1} << 16;

struct Piece {
  std::size_t tensor = 0;
  std::int64_t begin = 0;  // elements into the tensor
  std::int64_t count = 0;
};

std::vector<Piece> cut(const std::vector<PlacedTensor>& tensors) {
  std::vector<Piece> pieces;
  for (std::size_t tensor = 0; tensor < tensors.size(); ++tensor) {
    const std::int64_t elements = tensors[tensor].stored.elements;
    for (std::int64_t begin = 0; begin < elements; begin += kPieceElements) {
      pieces.push_back({tensor, begin, std::min(kPieceElements, elements - begin)});
    }
  }
  return pieces;
}

// The elements [begin, begin + count) of a tensor, as they are stored.
std::span<const std::byte> read_elements(const SourceTensor& tensor, std::int64_t begin,
                                         std::int64_t count, AlignedBuffer<std::byte>& buffer) {
  const auto width = static_cast<std::int64_t>(bytes_of(tensor.dtype));
  if (std::cmp_less(buffer.size(), count * width)) buffer = AlignedBuffer<std::byte>(count * width);
  const auto bytes = buffer.span().first(static_cast<std::size_t>(count * width));
  tensor.file->read(tensor.offset + begin * width, bytes);
  return bytes;
}

void require_finite(const PlacedTensor& tensor, std::string_view layer_prefix,
                    std::span<const std::byte> bytes, std::int64_t begin) {
  const DType dtype = tensor.stored.dtype;
  const std::size_t width = bytes_of(dtype);
  if (are_finite(dtype, bytes)) return;
  std::size_t at = 0;
  while (are_finite(dtype, bytes.subspan(at * width, width))) ++at;
  const std::int64_t element = begin + static_cast<std::int64_t>(at);
  const std::int64_t columns = tensor.named.shape.back();
  const std::int64_t layer = layer_of(tensor.named.name, layer_prefix);
  throw Error(
      ErrorCode::input,
      fmt::format("{}tensor {} in {} is not finite: row {}, column {} is not a finite number, and "
                  "every token would meet it; the file is damaged, fetch it again",
                  layer >= 0 ? fmt::format("layer {}: ", layer) : "", tensor.named.name,
                  tensor.stored.file->path().string(),
                  tensor.named.shape.size() > 1 ? element / columns : 0, element % columns));
}

// Writes the values of a piece to `memory`, unless they are packed later, and returns the hash of
// its bytes.
std::uint64_t load_piece(const Piece& piece, const PlacedTensor& tensor, const FiniteExcept& except,
                         std::byte* memory, AlignedBuffer<std::byte>& buffer) {
  const auto width = static_cast<std::int64_t>(bytes_of(tensor.stored.dtype));
  const WeightForm& form = *tensor.form;
  tensor.stored.file->will_read(tensor.stored.offset + piece.begin * width, piece.count * width);
  Hasher hasher;
  const std::int64_t end = piece.begin + piece.count;
  for (std::int64_t begin = piece.begin; begin < end; begin += kSliceElements) {
    const std::int64_t count = std::min(kSliceElements, end - begin);
    const auto bytes = read_elements(tensor.stored, begin, count, buffer);
    hasher.update(bytes);
    // Looked at here, where the bytes are in the cache: it costs no time of its own.
    if (tensor.named.name != except.tensor) {
      require_finite(tensor, except.layer_prefix, bytes, begin);
    }
    if (form.panel_outputs() > 0) continue;
    form.convert(tensor.stored.dtype, bytes, memory + tensor.offset + begin * form.element_bytes());
  }
  return hasher.digest();
}

struct Panel {
  const PlacedWeights* matrix = nullptr;
  std::int64_t number = 0;
};

std::vector<Panel> panels_of(const WeightLayout& layout) {
  std::vector<Panel> panels;
  for (const PlacedWeights& matrix : layout.weights) {
    if (!matrix.is_packed()) continue;
    const std::int64_t count = ceil_div(matrix.shape.outputs, matrix.form->panel_outputs());
    for (std::int64_t i = 0; i < count; ++i) panels.push_back({&matrix, i});
  }
  return panels;
}

// Reads the rows of a panel, which may lie in several tensors, and packs them.
void load_panel(const Panel& panel, const WeightLayout& layout, std::byte* memory,
                AlignedBuffer<std::byte>& buffer) {
  const PlacedWeights& matrix = *panel.matrix;
  const WeightForm& form = *matrix.form;
  const std::int64_t inputs = matrix.shape.inputs;
  std::int64_t row = panel.number * form.panel_outputs();  // of `tensor`
  const std::int64_t count = std::min(form.panel_outputs(), matrix.shape.outputs - row);
  AlignedBuffer<std::byte> rows(count * inputs * form.element_bytes());
  std::size_t at = matrix.first;
  for (std::int64_t done = 0; done < count;) {
    while (row >= layout.tensors[at].named.shape.front()) {
      row -= layout.tensors[at++].named.shape.front();
    }
    const SourceTensor& tensor = layout.tensors[at].stored;
    const std::int64_t run = std::min(count - done, layout.tensors[at].named.shape.front() - row);
    form.convert(tensor.dtype, read_elements(tensor, row * inputs, run * inputs, buffer),
                 rows.data() + done * inputs * form.element_bytes());
    done += run;
    row += run;
  }
  form.pack(matrix.shape, panel.number, rows.data(), memory + matrix.offset);
}

// Every rank gets the hashes of all pieces.
std::vector<std::uint64_t> exchange(const mpi::Communicator& node, std::span<std::uint64_t> mine,
                                    std::int64_t pieces) {
  std::vector<std::uint64_t> all(static_cast<std::size_t>(pieces));
  std::vector<int> bytes;
  for (int rank = 0; rank < node.size(); ++rank) {
    bytes.push_back(checked_cast<int>(
        checked_mul(part_of(pieces, rank, node.size()).count(), sizeof(std::uint64_t))));
  }
  node.all_gather(std::as_bytes(mine), std::as_writable_bytes(std::span(all)), bytes);
  return all;
}

std::string fingerprint_from(const std::vector<PlacedTensor>& tensors,
                             const std::vector<Piece>& pieces,
                             std::span<const std::uint64_t> hashes) {
  std::vector<std::string> lines;
  for (const PlacedTensor& tensor : tensors) {
    lines.push_back(fmt::format("{} {} ({})", tensor.named.name, name_of(tensor.stored.dtype),
                                fmt::join(tensor.named.shape, ", ")));
  }
  for (std::size_t i = 0; i < pieces.size(); ++i) {
    lines[pieces[i].tensor].append(1, ' ').append(hex_of(hashes[i]));
  }
  std::ranges::sort(lines);
  return hex_of(hash_of(fmt::format("{}", fmt::join(lines, "\n"))));
}

}  // namespace

// Whether two tensors hold the same values; their parts are compared by all ranks and threads.
bool are_equal(const SourceTensor& a, const SourceTensor& b, const mpi::Communicator& node,
               ThreadPool& pool) {
  const std::int64_t slices = ceil_div(a.elements, kSliceElements);
  const Part mine = part_of(slices, node.rank(), node.size());
  std::atomic<bool> equal = true;
  node.agree([&] {
    pool.run(mine.count(), [&](std::int64_t i, int) {
      if (!equal) return;
      const std::int64_t begin = (mine.begin + i) * kSliceElements;
      const std::int64_t count = std::min(kSliceElements, a.elements - begin);
      std::array<std::vector<float>, 2> values;
      for (std::size_t side = 0; side < 2; ++side) {
        const SourceTensor& tensor = side == 0 ? a : b;
        AlignedBuffer<std::byte> buffer;
        values[side].resize(static_cast<std::size_t>(count));
        widen(tensor.dtype, read_elements(tensor, begin, count, buffer).data(), values[side]);
      }
      if (values[0] != values[1]) equal = false;
    });
  });
  return node.min(std::int64_t{equal ? 1 : 0}) == 1;
}

std::string load_tensors(const WeightLayout& layout, const FiniteExcept& except, std::byte* memory,
                         const mpi::Communicator& node, ThreadPool& pool) {
  const std::vector<Piece> pieces = cut(layout.tensors);
  const Part part = part_of(std::ssize(pieces), node.rank(), node.size());
  std::vector<std::uint64_t> hashes(static_cast<std::size_t>(part.count()));
  std::vector<AlignedBuffer<std::byte>> buffers(static_cast<std::size_t>(pool.threads()));
  node.agree([&] {
    pool.run(part.count(), [&](std::int64_t i, int thread) {
      const Piece& piece = pieces[static_cast<std::size_t>(part.begin + i)];
      hashes[static_cast<std::size_t>(i)] =
          load_piece(piece, layout.tensors[piece.tensor], except, memory,
                     buffers[static_cast<std::size_t>(thread)]);
    });
  });
  std::string fingerprint =
      fingerprint_from(layout.tensors, pieces, exchange(node, hashes, std::ssize(pieces)));
  // A second reading, now from the page cache: pieces are cut by elements, for a fingerprint that
  // does not depend on the form, panels by rows.
  const std::vector<Panel> panels = panels_of(layout);
  const Part share = part_of(std::ssize(panels), node.rank(), node.size());
  node.agree([&] {
    pool.run(share.count(), [&](std::int64_t i, int thread) {
      load_panel(panels[static_cast<std::size_t>(share.begin + i)], layout, memory,
                 buffers[static_cast<std::size_t>(thread)]);
    });
  });
  return fingerprint;
}

}  // namespace powerprefill
