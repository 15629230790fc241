#include "hdf5/element.hpp"

#include <hdf5.h>

#include <array>

#include "hdf5/check.hpp"

namespace powerprefill::hdf5 {

namespace {

// Bit positions and sizes of a 16-bit float.
struct HalfLayout {
  std::size_t exponent_bits;
  std::size_t mantissa_bits;
  std::size_t bias;
};

// Fields first, then the size, then the bias: each step needs the one before.
Handle make_half(const HalfLayout& layout) {
  const Context context{ErrorCode::internal, "a 16-bit float type"};
  Handle type = check_handle(H5Tcopy(H5T_IEEE_F32LE), "copy the f32 type", context);
  check(H5Tset_fields(type.id(), 15, layout.mantissa_bits, layout.exponent_bits, 0,
                      layout.mantissa_bits),
        "set the fields", context);
  check(H5Tset_size(type.id(), 2), "set the size", context);
  check(H5Tset_ebias(type.id(), layout.bias), "set the exponent's bias", context);
  return type;
}

Handle copy_of(hid_t type) {
  return check_handle(H5Tcopy(type), "copy a type", {ErrorCode::internal, "memory"});
}

}  // namespace

Handle make_type(Element element) {
  start_quietly();
  switch (element) {
    case Element::u8:
      return copy_of(H5T_STD_U8LE);
    case Element::i32:
      return copy_of(H5T_STD_I32LE);
    case Element::i64:
      return copy_of(H5T_STD_I64LE);
    case Element::u64:
      return copy_of(H5T_STD_U64LE);
    case Element::f32:
      return copy_of(H5T_IEEE_F32LE);
    case Element::bf16:
      return make_half({.exponent_bits = 8, .mantissa_bits = 7, .bias = 127});
    case Element::f16:
      return make_half({.exponent_bits = 5, .mantissa_bits = 10, .bias = 15});
  }
  throw Error(ErrorCode::internal, "no HDF5 type for this element");
}

std::optional<Element> element_of_type(const Handle& type) {
  constexpr std::array all = {Element::u8,  Element::i32,  Element::i64, Element::u64,
                              Element::f32, Element::bf16, Element::f16};
  for (Element element : all) {
    if (H5Tequal(type.id(), make_type(element).id()) > 0) return element;
  }
  return std::nullopt;
}

}  // namespace powerprefill::hdf5
