#include "math/linear/bf16_matmul.hpp"

#include <fmt/format.h>
#include <omp.h>

#include <algorithm>
#include <map>
#include <memory>
#include <mutex>
#include <oneapi/dnnl/dnnl.hpp>
#include <shared_mutex>
#include <tuple>
#include <vector>

#include "base/aligned_buffer.hpp"
#include "base/checked.hpp"
#include "math/linear/linear.hpp"

namespace powerprefill {

namespace {

using dnnl::memory;

const dnnl::engine& engine() {
  static const dnnl::engine cpu(dnnl::engine::kind::cpu, 0);
  return cpu;
}

dnnl::stream& stream() {
  // One thread per call: the tasks are ours. The number is OpenMP's for each thread apart.
  thread_local dnnl::stream own = [] {
    omp_set_num_threads(1);
    return dnnl::stream(engine());
  }();
  return own;
}

struct Kernel {
  dnnl::matmul::primitive_desc description;
  dnnl::matmul primitive;
};

dnnl::matmul::primitive_desc describe(std::int64_t rows, const memory::desc& weights,
                                      std::int64_t inputs, std::int64_t outputs) {
  stream();  // the number of threads is read when a description is made
  const memory::desc x({rows, inputs}, memory::data_type::bf16, memory::format_tag::ab);
  const memory::desc y({rows, outputs}, memory::data_type::f32, memory::format_tag::ab);
  dnnl::primitive_attr attributes;
  attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
#if DNNL_VERSION_MAJOR >= 3
  return dnnl::matmul::primitive_desc(engine(), x, weights, y, attributes);
#else
  return dnnl::matmul::primitive_desc(dnnl::matmul::desc(x, weights, y), attributes, engine());
#endif
}

memory::desc weights_of(std::int64_t inputs, std::int64_t outputs) {
  static std::mutex mutex;
  static std::map<std::pair<std::int64_t, std::int64_t>, memory::desc> known;
  const std::lock_guard lock(mutex);
  auto found = known.find({inputs, outputs});
  if (found == known.end()) {
    const memory::desc any({inputs, outputs}, memory::data_type::bf16, memory::format_tag::any);
    found = known
                .emplace(std::pair(inputs, outputs),
                         describe(kTileTokens, any, inputs, outputs).weights_desc())
                .first;
  }
  return found->second;
}

const Kernel& kernel_for(std::int64_t rows, std::int64_t inputs, std::int64_t outputs) {
  using Key = std::tuple<std::int64_t, std::int64_t, std::int64_t>;
  static std::shared_mutex mutex;
  static std::map<Key, std::unique_ptr<Kernel>> known;
  const Key key = {rows, inputs, outputs};
  {
    const std::shared_lock lock(mutex);
    const auto found = known.find(key);
    if (found != known.end()) return *found->second;
  }
  const memory::desc weights = weights_of(inputs, outputs);
  const std::unique_lock lock(mutex);
  auto& place = known[key];
  if (!place) {
    const auto description = describe(rows, weights, inputs, outputs);
    place = std::make_unique<Kernel>(Kernel{description, dnnl::matmul(description)});
  }
  return *place;
}

// oneDNN speaks of its own errors; they become ours.
template <typename Body>
auto translated(const Body& body) {
  try {
    return body();
  } catch (const dnnl::error& error) {
    throw Error(ErrorCode::internal, fmt::format("oneDNN failed: {}", error.what()));
  }
}

}  // namespace

PackedShape::PackedShape(std::int64_t inputs, std::int64_t outputs)
    : inputs_(inputs), outputs_(outputs) {
  panel_bytes_ = translated([&] {
    std::int64_t most = 0;
    for (const std::int64_t count : {std::min(outputs, kBf16Panel), outputs_of(panels() - 1)}) {
      most = std::max(most, static_cast<std::int64_t>(weights_of(inputs, count).get_size()));
    }
    return round_up(most, 64);
  });
}

std::int64_t PackedShape::outputs_of(std::int64_t panel) const {
  return std::min(kBf16Panel, outputs_ - first_output(panel));
}

void pack_panel(const PackedShape& shape, std::int64_t panel, const std::uint16_t* rows,
                std::byte* packed) {
  translated([&] {
    const std::int64_t inputs = shape.inputs();
    const std::int64_t outputs = shape.outputs_of(panel);
    // W^T (inputs, outputs), as it lies: outputs are rows.
    const memory::desc plain({inputs, outputs}, memory::data_type::bf16, memory::dims{1, inputs});
    memory from(plain, engine(), const_cast<std::uint16_t*>(rows));
    memory to(weights_of(inputs, outputs), engine(), packed);
    stream();
    dnnl::reorder(from, to).execute(stream(), from, to);
    stream().wait();
  });
}

void multiply_panel(const PackedShape& shape, std::int64_t panel, std::int64_t rows,
                    const std::uint16_t* x, const std::byte* packed, float* y) {
  translated([&] {
    const Kernel& kernel = kernel_for(rows, shape.inputs(), shape.outputs_of(panel));
    const auto& description = kernel.description;
    thread_local AlignedBuffer<std::byte> scratch;
    const auto needed = static_cast<std::int64_t>(description.scratchpad_desc().get_size());
    if (std::cmp_less(scratch.size(), needed)) scratch = AlignedBuffer<std::byte>(needed);
    kernel.primitive.execute(
        stream(),
        {{DNNL_ARG_SRC, memory(description.src_desc(), engine(), const_cast<std::uint16_t*>(x))},
         {DNNL_ARG_WEIGHTS,
          memory(description.weights_desc(), engine(), const_cast<std::byte*>(packed))},
         {DNNL_ARG_DST, memory(description.dst_desc(), engine(), y)},
         {DNNL_ARG_SCRATCHPAD, memory(description.scratchpad_desc(), engine(), scratch.data())}});
    stream().wait();
  });
}

bool has_bf16_matmul() {
  try {
    describe(kTileTokens, weights_of(kBf16Panel, kBf16Panel), kBf16Panel, kBf16Panel);
    return true;
  } catch (const dnnl::error&) {
    return false;
  }
}

std::string matmul_library() {
  const dnnl_version_t* version = dnnl_version();
  return fmt::format("oneDNN {}.{}.{}", version->major, version->minor, version->patch);
}

std::string matmul_kernel(std::int64_t rows, std::int64_t inputs, std::int64_t outputs) {
  return translated([&] {
    return std::string(
        describe(rows, weights_of(inputs, outputs), inputs, outputs).impl_info_str());
  });
}

}  // namespace powerprefill
