// The few elements that the figures are made of.
#pragma once

#include <string>

namespace powerprefill {

struct Box {
  double x = 0;
  double y = 0;
  double width = 0;
  double height = 0;
  double right() const { return x + width; }
  double bottom() const { return y + height; }
};

struct TextStyle {
  double size = 13;
  const char* anchor = "start";  // or middle, end
  const char* colour = "#222222";
  bool bold = false;
  bool upwards = false;  // turned by 90 degrees against the clock
};

// An SVG document under construction. Text is escaped; numbers are written with up to two decimals.
class Svg {
 public:
  Svg(double width, double height, const std::string& title, const std::string& description);

  void raw(const std::string& markup) { body_ += markup + '\n'; }
  void text(double x, double y, const std::string& text, const TextStyle& style = {});
  void line(double x1, double y1, double x2, double y2, const char* colour, double width = 1);
  void rect(const Box& box, const char* fill, const char* stroke = "none");
  // The document. It takes no more afterwards.
  std::string finish();

 private:
  std::string body_;
};

// "12", "12.5", "12.25"
std::string svg_number(double value);

// &, <, >, quotes and apostrophes as entities; control characters, which XML has not, as spaces.
std::string xml_escape(const std::string& text);

}  // namespace powerprefill
