#include "report/pattern_svg.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "report/svg.hpp"

namespace powerprefill {

namespace {

constexpr const char* kSoft = "#595959";
constexpr const char* kGrid = "#e2e2e2";
constexpr const char* kPanel = "#f5f5f5";
constexpr const char* kFuture = "#ffffff";
constexpr const char* kDark = "#0072b2";
constexpr const char* kLight = "#9fcbe6";
constexpr std::int64_t kFinestMask = 256;

// Colours of Okabe and Ito, which people with any colour vision tell apart; dashes for print.
struct CurveStyle {
  const char* colour;
  const char* dash;
  const char* marker;  // a path around (0, 0)
};
constexpr CurveStyle kCurveStyles[] = {
    {"#0072b2", "none", "M-4 0a4 4 0 1 0 8 0a4 4 0 1 0 -8 0z"},  // disc
    {"#d55e00", "8 4", "M-4 -4h8v8h-8z"},                        // square
    {"#009e73", "2 3", "M0 -5L5 4H-5z"},                         // triangle
    {"#cc79a7", "10 3 2 3", "M0 -5L5 0L0 5L-5 0z"},              // diamond
    {"#56b4e9", "5 3", "M0 5L5 -4H-5z"},                         // triangle on its tip
    {"#000000", "1 2", "M-4 -2h8v4h-8z"},                        // bar
    {"#e69f00", "12 4", "M-2 -4h4v8h-4z"},                       // standing bar
};

// A step of 1, 2 or 5 times a power of ten that makes at most `most` steps of `range`.
std::int64_t tick_step(std::int64_t range, std::int64_t most) {
  for (std::int64_t ten = 1;; ten *= 10) {
    for (const std::int64_t step : {ten, 2 * ten, 5 * ten}) {
      if (range <= step * most) return step;
    }
  }
}

std::string percent(double share) {
  if (share <= 0 || share >= 1) return fmt::format("{:.0f}%", share * 100);
  return fmt::format("{:.1f}%", std::min(share * 100, 99.9));  // not quite all is not 100%
}

// "1 layer", "2 layers"
std::string count_of(std::int64_t count, const char* what) {
  return fmt::format("{} {}{}", count, what, count == 1 ? "" : "s");
}

// Block numbers below an axis of `blocks` blocks.
void block_ticks(Svg& svg, const Box& box, std::int64_t blocks, bool down) {
  const double size = (down ? box.height : box.width) / static_cast<double>(blocks);
  const std::int64_t step = blocks % 32 == 0 && blocks <= kFinestMask
                                ? std::max<std::int64_t>(blocks / 8, 8)
                                : tick_step(blocks, 8);
  for (std::int64_t block = 0; block < blocks; block += step) {
    const double at = (static_cast<double>(block) + 0.5) * size;
    const std::string text = fmt::format("{}", block);
    if (down) {
      svg.text(box.x - 7, box.y + at + 4, text, {.size = 11, .anchor = "end", .colour = kSoft});
    } else {
      svg.line(box.x + at, box.bottom(), box.x + at, box.bottom() + 4, kSoft);
      svg.text(box.x + at, box.bottom() + 17, text,
               {.size = 11, .anchor = "middle", .colour = kSoft});
    }
  }
}

// The sub-paths of the mask's cells by shade (1 the lightest), in groups of `group` blocks.
std::vector<std::string> mask_cells(const Pattern& pattern, std::int64_t blocks, std::int64_t group,
                                    std::size_t shades) {
  std::vector<std::string> paths(shades + 1);
  const std::int64_t cells = (blocks + group - 1) / group;
  for (std::int64_t y = 0; y < cells; ++y) {
    std::vector<std::int64_t> pairs(static_cast<std::size_t>(y) + 1, 0);
    const std::int64_t end = std::min((y + 1) * group, blocks);
    for (std::int64_t query = y * group; query < end; ++query) {
      for (const std::int64_t key : pattern.key_blocks(query)) {
        ++pairs[static_cast<std::size_t>(key / group)];
      }
    }
    const std::int64_t rows = end - y * group;
    for (std::int64_t x = 0; x <= y; ++x) {
      const std::int64_t attended = pairs[static_cast<std::size_t>(x)];
      const std::int64_t all = x < y ? rows * group : rows * (rows + 1) / 2;
      const auto n = static_cast<std::int64_t>(shades);
      const auto shade = static_cast<std::size_t>((attended * n + all - 1) / all);
      if (attended > 0) paths[shade] += fmt::format("M{} {}h1v1h-1z", x, y);
    }
  }
  return paths;
}

void draw_mask(Svg& svg, const Box& box, const Pattern& pattern, const PatternPicture& picture) {
  const std::int64_t group = (picture.blocks + kFinestMask - 1) / kFinestMask;
  const std::int64_t cells = (picture.blocks + group - 1) / group;
  const std::size_t shades = group == 1 ? 1 : 4;
  svg.text(box.x, box.y - 14, "Who attends to whom", {.size = 15, .bold = true});
  svg.rect(box, kFuture);
  const double cell = box.width / static_cast<double>(cells);
  // Causal pairs lie on or below the diagonal: a staircase.
  std::string stairs = "M0 0";
  for (std::int64_t i = 0; i < cells; ++i) stairs += "h1v1";
  svg.raw(fmt::format(R"x(<g transform="translate({} {}) scale({:.5f})">)x", svg_number(box.x),
                      svg_number(box.y), cell));
  svg.raw(fmt::format(R"(<path d="{}H0z" fill="#ececec"/>)", stairs));
  svg.raw(R"(<g id="mask">)");
  const std::vector<std::string> paths = mask_cells(pattern, picture.blocks, group, shades);
  for (std::size_t shade = 1; shade <= shades; ++shade) {
    if (paths[shade].empty()) continue;
    svg.raw(fmt::format(R"(<path d="{}" fill="{}" fill-opacity="{}"/>)", paths[shade], kDark,
                        svg_number(static_cast<double>(shade) / static_cast<double>(shades))));
  }
  svg.raw("</g></g>");
  svg.rect(box, "none", kSoft);
  block_ticks(svg, box, picture.blocks, false);
  block_ticks(svg, box, picture.blocks, true);
  svg.text(box.x + box.width / 2, box.bottom() + 36, "key block", {.anchor = "middle"});
  svg.text(box.x - 40, box.y + box.height / 2, "query block",
           {.anchor = "middle", .upwards = true});
  const Box key = {box.right() - 190, box.y + 16, 13, 13};
  svg.rect(key, kDark);
  svg.text(key.right() + 7, key.y + 11, "attended");
  svg.rect({key.x, key.y + 21, 13, 13}, "#ececec");
  svg.text(key.right() + 7, key.y + 32, "earlier, not attended");
  if (group > 1) {
    svg.text(key.x, key.y + 53, fmt::format("a cell is {0} x {0} blocks;", group), {.size = 11});
    svg.text(key.x, key.y + 68, "the darker, the more pairs", {.size = 11});
  }
}

// Runs of blocks for which `is_in` holds, as sub-paths of height 1.
template <typename IsIn>
std::string runs(const std::vector<std::int64_t>& layers_to, const IsIn& is_in) {
  std::string path;
  for (std::size_t begin = 0; begin < layers_to.size(); ++begin) {
    if (!is_in(layers_to[begin])) continue;
    std::size_t end = begin;
    while (end < layers_to.size() && is_in(layers_to[end])) ++end;
    path += fmt::format("M{} 0h{}v1h-{}z", begin, end - begin, end - begin);
    begin = end;
  }
  return path;
}

void draw_spread(Svg& svg, const Box& box, const PatternPicture& picture) {
  svg.text(box.x, box.y - 36, "What the last block sees, layer by layer",
           {.size = 15, .bold = true});
  svg.rect({box.x, box.y - 24, 13, 13}, kDark);
  svg.text(box.x + 20, box.y - 13, "new after this layer");
  svg.rect({box.x + 165, box.y - 24, 13, 13}, kLight);
  svg.text(box.x + 185, box.y - 13, "seen before");
  svg.rect({box.x + 280, box.y - 24, 13, 13}, kPanel, "#b0b0b0");
  svg.text(box.x + 300, box.y - 13, "not seen");

  const double row = box.height / static_cast<double>(picture.layers);
  const double gap = row > 8 ? 2 : 0;
  const auto every = static_cast<std::int64_t>(std::ceil(14 / row));
  const double earlier = static_cast<double>(std::max<std::int64_t>(picture.blocks - 1, 1));
  for (std::int64_t layer = 1; layer <= picture.layers; ++layer) {
    const double y = box.y + static_cast<double>(layer - 1) * row;
    svg.rect({box.x, y, box.width, row - gap}, kPanel);
    svg.raw(fmt::format(R"x(<g class="spread" transform="translate({} {}) scale({:.5f} {:.5f})">)x",
                        svg_number(box.x), svg_number(y),
                        box.width / static_cast<double>(picture.blocks), row - gap));
    const auto& to = picture.layers_to;
    const std::string old = runs(to, [&](auto k) { return k >= 0 && k < layer; });
    const std::string fresh = runs(to, [&](auto k) { return k == layer; });
    svg.raw(fmt::format(R"(<path d="{}" fill="{}"/>)", old, kLight));
    if (!fresh.empty()) svg.raw(fmt::format(R"(<path d="{}" fill="{}"/>)", fresh, kDark));
    svg.raw("</g>");
    if ((layer - 1) % every != 0) continue;
    const auto seen =
        std::count_if(to.begin(), to.end(), [&](std::int64_t k) { return k > 0 && k <= layer; });
    const double share = picture.blocks == 1 ? 1 : static_cast<double>(seen) / earlier;
    const double baseline = y + (row - gap) / 2 + 4;
    svg.text(box.x - 8, baseline, count_of(layer, "layer"),
             {.size = 11, .anchor = "end", .colour = kSoft});
    svg.text(box.right() + 8, baseline, percent(share), {.size = 11, .colour = kSoft});
  }
  block_ticks(svg, {box.x, box.y, box.width, box.height}, picture.blocks, false);
  svg.text(box.x + box.width / 2, box.bottom() + 36, "block", {.anchor = "middle"});
}

// Where labels go: as near to the wanted heights as `gap` between neighbours permits.
std::vector<double> place_labels(const std::vector<double>& wanted, double gap, double bottom) {
  std::vector<std::size_t> order(wanted.size());
  for (std::size_t n = 0; n < order.size(); ++n) order[n] = n;
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return wanted[a] < wanted[b]; });
  std::vector<double> placed(wanted);
  for (std::size_t n = 1; n < order.size(); ++n) {
    placed[order[n]] = std::max(placed[order[n]], placed[order[n - 1]] + gap);
  }
  double limit = bottom;
  for (std::size_t n = order.size(); n-- > 0; limit -= gap) {
    placed[order[n]] = std::min(placed[order[n]], limit);
    limit = placed[order[n]];
  }
  return placed;
}

void draw_axes(Svg& svg, const Box& box, std::int64_t layers) {
  for (int tick = 0; tick <= 100; tick += 20) {
    const double y = box.bottom() - box.height * tick / 100;
    svg.line(box.x, y, box.right(), y, tick == 0 ? kSoft : kGrid);
    svg.text(box.x - 8, y + 4, fmt::format("{}%", tick),
             {.size = 11, .anchor = "end", .colour = kSoft});
  }
  const std::int64_t step = tick_step(layers, 10);
  for (std::int64_t layer = 0; layer <= layers; layer += step) {
    const double x = box.x + box.width * static_cast<double>(layer) / static_cast<double>(layers);
    svg.line(x, box.bottom(), x, box.bottom() + 4, kSoft);
    svg.text(x, box.bottom() + 17, fmt::format("{}", layer),
             {.size = 11, .anchor = "middle", .colour = kSoft});
  }
  svg.text(box.x + box.width / 2, box.bottom() + 36, "layers", {.anchor = "middle"});
}

// The chart fills `box`; labels stand to its right.
void draw_curves(Svg& svg, const Box& box, const std::vector<CoverageCurve>& curves) {
  const auto layers = static_cast<std::int64_t>(curves.front().covered.size()) - 1;
  draw_axes(svg, box, layers);
  const auto x_of = [&](std::size_t layer) {
    return box.x + box.width * static_cast<double>(layer) / static_cast<double>(layers);
  };
  const auto y_of = [&](double share) { return box.bottom() - box.height * share; };
  std::vector<double> wanted;
  for (const CoverageCurve& curve : curves) wanted.push_back(y_of(curve.covered.back()));
  const std::vector<double> placed = place_labels(wanted, 17, box.bottom());
  const auto marker_step = static_cast<std::size_t>(tick_step(layers, 12));
  // The chosen curve comes last, so that it lies on top.
  for (const bool chosen : {false, true}) {
    for (std::size_t n = 0; n < curves.size(); ++n) {
      const CoverageCurve& curve = curves[n];
      if (curve.chosen != chosen) continue;
      const CurveStyle& style = kCurveStyles[n % std::size(kCurveStyles)];
      std::string path;
      std::string markers;
      for (std::size_t k = 0; k < curve.covered.size(); ++k) {
        const std::string x = svg_number(x_of(k));
        const std::string y = svg_number(y_of(curve.covered[k]));
        path += fmt::format("{}{} {}", k == 0 ? "M" : "L", x, y);
        if (k == 0 || k % marker_step != 0) continue;
        markers +=
            fmt::format(R"x(<path d="{}" transform="translate({} {})"/>)x", style.marker, x, y);
      }
      svg.raw(fmt::format(R"(<path class="curve" d="{}" fill="none" stroke="{}" )"
                          R"(stroke-width="{}" stroke-dasharray="{}" stroke-linejoin="round"/>)",
                          path, style.colour, chosen ? "3.5" : "2", style.dash));
      svg.raw(fmt::format(R"(<g fill="{}" stroke="#ffffff" stroke-width="0.8">{}</g>)",
                          style.colour, markers));
      svg.raw(fmt::format(R"(<path d="M{} {}L{} {}" stroke="{}" stroke-width="1" fill="none"/>)",
                          svg_number(box.right() + 7), svg_number(wanted[n]),
                          svg_number(box.right() + 20), svg_number(placed[n]), style.colour));
      svg.raw(fmt::format(R"x(<path d="{}" transform="translate({} {})" fill="{}"/>)x",
                          style.marker, svg_number(box.right() + 27), svg_number(placed[n]),
                          style.colour));
      svg.text(box.right() + 37, placed[n] + 4,
               fmt::format("{} {}, {}", curve.name, percent(curve.covered.back()),
                           count_of(curve.keys, "key")),
               {.size = 12, .bold = chosen});
    }
  }
}

std::string spoken(const std::vector<CoverageCurve>& curves) {
  std::string text;
  for (const CoverageCurve& curve : curves) {
    text += fmt::format(" {}, {} of the last block: {} after {}.", curve.name,
                        count_of(curve.keys, "key block"), percent(curve.covered.back()),
                        count_of(static_cast<std::int64_t>(curve.covered.size()) - 1, "layer"));
  }
  return text;
}

}  // namespace

std::string pattern_svg(const Pattern& pattern, const PatternPicture& picture,
                        const std::vector<CoverageCurve>& curves) {
  const std::string blocks = count_of(picture.blocks, "block");
  Svg svg(
      1310, 700, fmt::format("Attention pattern {} over {}", picture.name, blocks),
      fmt::format("Left: which key blocks each query block attends to. Right, above: the blocks "
                  "that the last block sees after 1 to {}. Right, below: the share of earlier "
                  "blocks that it sees, by pattern.{}",
                  count_of(picture.layers, "layer"), spoken(curves)));
  svg.text(64, 40, fmt::format("Attention pattern {}, {}", picture.name, blocks),
           {.size = 20, .bold = true});
  const double rows = std::clamp(22.0 * static_cast<double>(picture.layers), 22.0, 176.0);
  draw_mask(svg, {64, 100, 540, 540}, pattern, picture);
  const Box spread = {706, 122, 384, rows};
  draw_spread(svg, spread, picture);
  const double top = spread.bottom() + 92;
  svg.text(706, top - 22, "Share of earlier blocks seen by the last block",
           {.size = 15, .bold = true});
  draw_curves(svg, {706, top, 384, 640 - top}, curves);
  return svg.finish();
}

std::string coverage_svg(std::int64_t blocks, const std::vector<CoverageCurve>& curves) {
  Svg svg(890, 480, fmt::format("Coverage of {} by layers", count_of(blocks, "block")),
          fmt::format("The share of earlier blocks that the last block sees after so many layers, "
                      "by pattern.{}",
                      spoken(curves)));
  svg.text(64, 40,
           fmt::format("Share of earlier blocks seen by the last of {}", count_of(blocks, "block")),
           {.size = 18, .bold = true});
  draw_curves(svg, {64, 68, 590, 352}, curves);
  return svg.finish();
}

}  // namespace powerprefill
