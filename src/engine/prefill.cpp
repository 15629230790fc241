#include "powerprefill/prefill.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <numeric>
#include <optional>
#include <random>

#include "base/checked.hpp"
#include "base/process_memory.hpp"
#include "base/zones.hpp"
#include "cache/writer.hpp"
#include "engine/layer_forward.hpp"
#include "engine/loaded_model.hpp"
#include "engine/rank_reports.hpp"
#include "engine/row_parallel.hpp"
#include "math/linear.hpp"
#include "mpi/session.hpp"

namespace powerprefill {

namespace {

constexpr std::int64_t kLargestReserve = std::int64_t{1} << 36;

// One prefill from checked options to the commit.
class PrefillJob {
 public:
  PrefillJob(mpi::Communicator& world, const PrefillOptions& options)
      : world_(world), options_(options) {}

  PrefillReport run();

 private:
  // The exchange of the layers that share a pattern.
  struct PatternExchange {
    PatternSpec spec;
    std::shared_ptr<const Pattern> pattern;
    ExchangePlan plan;
    std::unique_ptr<KvExchange> exchange;
    std::int64_t layers = 0;
  };

  void check_options();
  void create_cache();
  Partition make_partition() const;
  void prepare_buffers();
  void run_layers();
  void commit();
  PatternExchange& exchange_of(std::int64_t layer);
  void write_layer(std::int64_t layer, KvBlocks& kv, std::int64_t& ticket);
  RankReport rank_report() const;

  mpi::Communicator& world_;
  const PrefillOptions& options_;
  DType dtype_ = DType::f32;
  LoadedModel model_;
  std::optional<Partition> partition_;
  std::optional<CacheWriter> writer_;
  std::vector<PatternExchange> exchanges_;
  std::optional<LayerForward> forward_;
  KvBlocks kv_[2];  // layers in turn: one is computed while the other is written
  std::int64_t written_[2] = {-1, -1};  // tickets of the writer
  AlignedBuffer<float> hidden_all_;
  ZoneSeconds zones_{};
  double begin_ = 0;
};

PrefillReport PrefillJob::run() {
  world_.agree([&] { check_options(); });
  {
    const ZoneTimer timer(zones_, Zone::load_weights);
    model_ = load_model(world_, options_.model);
  }
  world_.agree([&] {
    for (std::size_t i = 0; i < options_.tokens.size(); ++i) {
      const std::int64_t id = options_.tokens[i];
      if (id >= 0 && id < model_.config.vocabulary) continue;
      throw Error(ErrorCode::input,
                  fmt::format("token {} of the prompt has id {}, outside the vocabulary of {}; was "
                              "it made for another model?",
                              i, id, model_.config.vocabulary));
    }
    if (static_cast<std::int64_t>(options_.schedule.layers.size()) != model_.config.layers) {
      throw Error(ErrorCode::usage,
                  fmt::format("the schedule has {} layers, the model {}",
                              options_.schedule.layers.size(), model_.config.layers));
    }
  });
  {
    const ZoneTimer timer(zones_, Zone::create_cache);
    create_cache();
  }
  world_.agree([&] { prepare_buffers(); });
  world_.barrier();
  begin_ = seconds_now();
  forward_->embed(options_.tokens);
  run_layers();
  commit();

  PrefillReport report;
  report.wall_seconds = world_.max(seconds_now() - begin_);
  report.tokens = static_cast<std::int64_t>(options_.tokens.size());
  report.ranks = world_.size();
  report.nodes = model_.nodes;
  report.numerics = model_.numerics;
  report.weights_bytes = model_.weights.bytes();
  report.weights_location = model_.weights.location();
  std::error_code error;
  report.cache_bytes = static_cast<std::int64_t>(std::filesystem::file_size(options_.out, error));
  const RankReport mine = rank_report();
  world_.barrier();  // nobody gives shared memory back while others count their part of it
  report.per_rank = gather_reports(world_, mine);
  return report;
}

// Everything that can be known to be wrong before the weights are loaded.
void PrefillJob::check_options() {
  if (options_.tokens.empty()) {
    throw Error(ErrorCode::input, "the prompt is empty; give at least one token");
  }
  const auto dtype = dtype_from_name(options_.kv_dtype);
  if (!dtype) {
    throw Error(ErrorCode::usage,
                fmt::format("unknown --kv-dtype '{}'; choose f32, bf16 or f16", options_.kv_dtype));
  }
  dtype_ = *dtype;
  const std::string& partition = options_.partition;
  if (partition != "auto" && partition != "contiguous" && partition != "zigzag") {
    throw Error(ErrorCode::usage,
                fmt::format("unknown --partition '{}'; choose auto, contiguous or "
                            "zigzag",
                            partition));
  }
  if (options_.schedule.block < 1 || options_.schedule.block > 65536) {
    throw Error(ErrorCode::usage,
                fmt::format("a block of {} tokens; choose 1 to 65536", options_.schedule.block));
  }
  if (options_.reserve < 0 || options_.reserve > kLargestReserve) {
    throw Error(ErrorCode::usage,
                fmt::format("--reserve {}; choose 0 to {}", options_.reserve, kLargestReserve));
  }
  for (const PatternSpec& spec : options_.schedule.layers) make_pattern(spec);
  std::error_code unclear;  // what cannot be looked at is refused with a reason when it is made
  if (world_.is_root() && !options_.force && std::filesystem::exists(options_.out, unclear)) {
    throw Error(ErrorCode::usage,
                fmt::format("{} exists; add --force to replace it", options_.out.string()));
  }
}

void PrefillJob::create_cache() {
  const std::int64_t block = options_.schedule.block;
  const auto tokens = static_cast<std::int64_t>(options_.tokens.size());
  CacheHeader header;
  header.capacity = round_up(tokens, block) + round_up(options_.reserve, block);
  header.block_tokens = block;
  header.num_layers = model_.config.layers;
  header.num_kv_heads = model_.config.kv_heads;
  header.head_dim = model_.config.head_dim;
  header.hidden = model_.config.hidden;
  header.vocabulary = model_.config.vocabulary;
  header.dtype = dtype_;
  header.weights_fingerprint = model_.weights.fingerprint();
  header.config_fingerprint = model_.config_fingerprint;
  header.schedule = to_json(options_.schedule);
  header.rope = rope_to_json(model_.config.rope);
  header.compute = "f32";
  header.numerics = world_.broadcast_string(model_.numerics, 0);
  header.writer = "powerprefill " POWERPREFILL_VERSION;
  header.saves_hidden = options_.save_hidden;
  writer_ = CacheWriter::create(world_, options_.out, header, options_.force);
}

void PrefillJob::prepare_buffers() {
  const std::int64_t block = options_.schedule.block;
  partition_ = make_partition();
  const KvShape shape = {block, model_.config.kv_heads, model_.config.head_dim, dtype_};
  for (const PatternSpec& spec : options_.schedule.layers) {
    const auto known = std::find_if(exchanges_.begin(), exchanges_.end(),
                                    [&](const PatternExchange& e) { return e.spec == spec; });
    if (known != exchanges_.end()) {
      ++known->layers;
      continue;
    }
    PatternExchange entry;
    entry.spec = spec;
    entry.pattern = make_pattern(spec);
    entry.plan = make_exchange_plan(*entry.pattern, *partition_, world_.rank());
    entry.layers = 1;
    exchanges_.push_back(std::move(entry));
  }
  for (PatternExchange& entry : exchanges_) {  // the plans have found their final place
    entry.exchange = std::make_unique<KvExchange>(world_, entry.plan, *partition_, shape);
  }
  const std::int64_t blocks = partition_->blocks_of(world_.rank());
  for (KvBlocks& kv : kv_) kv = KvBlocks(shape, blocks);
  forward_.emplace(LayerForward::Context{.config = model_.config,
                                         .weights = model_.weights,
                                         .partition = *partition_,
                                         .rank = world_.rank(),
                                         .kv_shape = shape,
                                         .pool = *model_.pool,
                                         .zones = zones_,
                                         .poll = [this] {
                                           for (PatternExchange& e : exchanges_) e.exchange->poll();
                                         }});
}

Partition PrefillJob::make_partition() const {
  const auto tokens = static_cast<std::int64_t>(options_.tokens.size());
  const std::int64_t block = options_.schedule.block;
  // Rank boundaries at tile boundaries: the smallest number of blocks that fills whole tiles.
  const std::int64_t unit = std::lcm(block, kTileTokens) / block;
  const auto& layers = options_.schedule.layers;
  const bool has_full = std::any_of(layers.begin(), layers.end(),
                                    [](const PatternSpec& spec) { return spec.name == "full"; });
  const bool zigzag = options_.partition == "zigzag" || (options_.partition == "auto" && has_full);
  return zigzag ? Partition::zigzag(tokens, block, world_.size(), unit)
                : Partition::contiguous(tokens, block, world_.size(), unit);
}

PrefillJob::PatternExchange& PrefillJob::exchange_of(std::int64_t layer) {
  const PatternSpec& spec = options_.schedule.layers[static_cast<std::size_t>(layer)];
  return *std::find_if(exchanges_.begin(), exchanges_.end(),
                       [&](const PatternExchange& e) { return e.spec == spec; });
}

void PrefillJob::run_layers() {
  for (std::int64_t layer = 0; layer < model_.config.layers; ++layer) {
    KvBlocks& kv = kv_[layer % 2];
    std::int64_t& ticket = written_[layer % 2];
    if (ticket >= 0) {
      const ZoneTimer timer(zones_, Zone::cache_wait);
      writer_->wait_for(ticket);
    }
    const auto project = [&] { forward_->project_kv(layer, kv); };
    // A value beyond f16 is likely enough that the ranks agree on it in every layer.
    if (dtype_ == DType::f16) {
      world_.agree(project);
    } else {
      project();
    }
    PatternExchange& current = exchange_of(layer);
    current.exchange->start(kv);
    write_layer(layer, kv, ticket);
    forward_->project_q(layer);
    forward_->attend(*current.pattern, *current.exchange);
    forward_->feed_forward(layer);
    {
      const ZoneTimer timer(zones_, Zone::exchange_wait);
      current.exchange->finish();
    }
    if (options_.progress) {
      options_.progress({layer + 1, model_.config.layers, seconds_now() - begin_});
    }
  }
}

// Hands the layer's rows to the writer's thread, run by run, without the padding of the last block.
void PrefillJob::write_layer(std::int64_t layer, KvBlocks& kv, std::int64_t& ticket) {
  const std::int64_t row_bytes = writer_->header().row_bytes();
  for (const RowRun& run : forward_->local().runs()) {
    const auto bytes = static_cast<std::size_t>((run.end_token - run.begin_token) * row_bytes);
    ticket = writer_->write_layer(layer, run.begin_token,
                                  kv.keys(run.first_local_block, run.blocks.count).first(bytes),
                                  kv.values(run.first_local_block, run.blocks.count).first(bytes));
  }
}

void PrefillJob::commit() {
  const auto e = static_cast<std::size_t>(model_.config.hidden);
  const auto tokens = static_cast<std::int64_t>(options_.tokens.size());
  std::vector<float> hidden(e);
  std::vector<float> logits(static_cast<std::size_t>(model_.config.vocabulary));
  {
    const ZoneTimer timer(zones_, Zone::logits);
    const int owner = partition_->owner(GlobalBlock{partition_->blocks() - 1});
    if (world_.rank() == owner) forward_->final_hidden(tokens - 1, hidden);
    world_.broadcast(std::as_writable_bytes(std::span(hidden)), owner);
    apply_linear_row_split(
        world_, *model_.pool,
        {model_.weights.output_head(), {}, model_.config.hidden, model_.config.vocabulary},
        hidden.data(), logits);
    if (options_.save_hidden) {
      hidden_all_ = forward_->final_hidden_all();
      std::size_t next = 0;
      for (const RowRun& run : forward_->local().runs()) {
        const auto count = static_cast<std::size_t>(run.end_token - run.begin_token);
        writer_->write_hidden(run.begin_token, hidden_all_.span().subspan(next * e, count * e));
        next += count;
      }
    }
  }
  world_.agree([&] {
    if (std::all_of(logits.begin(), logits.end(), [](float v) { return std::isfinite(v); })) return;
    throw Error(ErrorCode::input,
                "the logits after the prompt are not finite numbers; check the checkpoint");
  });
  const ZoneTimer timer(zones_, Zone::commit);
  writer_->commit(tokens, options_.tokens, logits, hidden);
}

RankReport PrefillJob::rank_report() const {
  const ModelConfig& c = model_.config;
  RankReport report;
  report.threads = model_.pool->threads();
  for (std::size_t z = 0; z < kZones; ++z) {
    report.zone_seconds[std::string(name_of(static_cast<Zone>(z)))] = zones_[z];
  }
  report.tokens = forward_->local().tokens();
  const KvShape shape = {options_.schedule.block, c.kv_heads, c.head_dim, dtype_};
  report.activation_bytes = forward_->bytes() + kv_[0].bytes() + kv_[1].bytes() +
                            static_cast<std::int64_t>(hidden_all_.bytes());
  std::vector<int> peers;
  for (const PatternExchange& entry : exchanges_) {
    report.bytes_received += entry.exchange->bytes_received();
    report.bytes_planned += entry.layers * entry.plan.received_blocks() * 2 * shape.block_bytes();
    report.activation_bytes += entry.exchange->buffer_bytes();
    for (const Share& share : entry.plan.receives) peers.push_back(share.peer);
  }
  std::sort(peers.begin(), peers.end());
  report.peers = std::unique(peers.begin(), peers.end()) - peers.begin();
  report.pairs = forward_->attention().pairs();
  const double layer_weights =
      static_cast<double>(c.hidden) *
          static_cast<double>((2 * c.heads + 2 * c.kv_heads) * c.head_dim) +
      3.0 * static_cast<double>(c.hidden) * static_cast<double>(c.feed_forward);
  report.gemm_flops =
      2.0 * layer_weights * static_cast<double>(c.layers) * static_cast<double>(report.tokens);
  report.attention_flops = 4.0 * static_cast<double>(forward_->attention().token_pairs()) *
                           static_cast<double>(c.heads * c.head_dim);
  report.cache_write_seconds = writer_->write_seconds();
  report.node = model_.node;
  report.peak_rss_bytes = peak_resident_bytes();
  report.pss_bytes = proportional_set_bytes();
  return report;
}

}  // namespace

PrefillReport prefill(Session& session, const PrefillOptions& options) {
  auto job = std::make_unique<PrefillJob>(session.mpi().world(), options);
  try {
    return job->run();
  } catch (const Error& error) {
    // A failure of this rank alone ends the job, but messages may still be in flight: the buffers
    // that MPI reads and writes have to outlive it.
    if (!error.is_agreed() && session.ranks() > 1) static_cast<void>(job.release());
    throw;
  }
}

}  // namespace powerprefill
