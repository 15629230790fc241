#include "report/svg.hpp"

#include <fmt/format.h>

namespace powerprefill {

Svg::Svg(double width, double height, const std::string& title, const std::string& description) {
  const std::string w = svg_number(width);
  const std::string h = svg_number(height);
  raw(R"(<?xml version="1.0" encoding="UTF-8"?>)");
  raw(fmt::format(R"(<svg xmlns="http://www.w3.org/2000/svg" width="{0}" height="{1}" )"
                  R"(viewBox="0 0 {0} {1}" role="img" aria-labelledby="title desc" )"
                  R"(font-family="sans-serif">)",
                  w, h));
  raw(fmt::format(R"(<title id="title">{}</title>)", xml_escape(title)));
  raw(fmt::format(R"(<desc id="desc">{}</desc>)", xml_escape(description)));
  rect({0, 0, width, height}, "#ffffff");
}

void Svg::text(double x, double y, const std::string& text, const TextStyle& style) {
  const std::string at = fmt::format("{} {}", svg_number(x), svg_number(y));
  raw(fmt::format(R"(<text x="{}" y="{}" font-size="{}" text-anchor="{}" fill="{}"{}{}>{}</text>)",
                  svg_number(x), svg_number(y), svg_number(style.size), style.anchor, style.colour,
                  style.bold ? R"( font-weight="bold")" : "",
                  style.upwards ? fmt::format(R"x( transform="rotate(-90 {})")x", at) : "",
                  xml_escape(text)));
}

void Svg::line(double x1, double y1, double x2, double y2, const char* colour, double width) {
  raw(fmt::format(R"(<path d="M{} {}L{} {}" stroke="{}" stroke-width="{}" fill="none"/>)",
                  svg_number(x1), svg_number(y1), svg_number(x2), svg_number(y2), colour,
                  svg_number(width)));
}

void Svg::rect(const Box& box, const char* fill, const char* stroke) {
  raw(fmt::format(R"(<rect x="{}" y="{}" width="{}" height="{}" fill="{}" stroke="{}"/>)",
                  svg_number(box.x), svg_number(box.y), svg_number(box.width),
                  svg_number(box.height), fill, stroke));
}

std::string Svg::finish() {
  raw("</svg>");
  return std::move(body_);
}

std::string svg_number(double value) {
  std::string text = fmt::format("{:.2f}", value);
  text.erase(text.find_last_not_of('0') + 1);
  if (text.back() == '.') text.pop_back();
  return text == "-0" ? "0" : text;
}

std::string xml_escape(const std::string& text) {
  std::string escaped;
  for (const char c : text) {
    switch (c) {
      case '&':
        escaped += "&amp;";
        break;
      case '<':
        escaped += "&lt;";
        break;
      case '>':
        escaped += "&gt;";
        break;
      case '"':
        escaped += "&quot;";
        break;
      case '\'':
        escaped += "&apos;";
        break;
      default:
        escaped += c >= 0 && c < ' ' ? ' ' : c;
    }
  }
  return escaped;
}

}  // namespace powerprefill
