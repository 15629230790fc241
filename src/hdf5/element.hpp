// The element types that files hold, all little-endian.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "base/dtype.hpp"
#include "hdf5/handle.hpp"

namespace powerprefill::hdf5 {

enum class Element { u8, i32, i64, u64, f32, bf16, f16 };

constexpr std::int64_t bytes_of(Element element) {
  switch (element) {
    case Element::u8:
      return 1;
    case Element::bf16:
    case Element::f16:
      return 2;
    case Element::i32:
    case Element::f32:
      return 4;
    case Element::i64:
    case Element::u64:
      return 8;
  }
  return 0;
}

constexpr std::string_view name_of(Element element) {
  switch (element) {
    case Element::u8:
      return "u8";
    case Element::i32:
      return "int32";
    case Element::i64:
      return "int64";
    case Element::u64:
      return "u64";
    case Element::f32:
      return "f32";
    case Element::bf16:
      return "bf16";
    case Element::f16:
      return "f16";
  }
  return "?";
}

constexpr Element element_of(DType dtype) {
  switch (dtype) {
    case DType::bf16:
      return Element::bf16;
    case DType::f16:
      return Element::f16;
    case DType::f32:
      break;
  }
  return Element::f32;
}

// A new HDF5 type. bf16 and f16 are true floating-point types, so that any HDF5 reader gets values;
// they are for files only: HDF5's own conversion is slow and rounds ties wrongly, so move raw bits
// and convert with base/dtype.hpp.
Handle make_type(Element element);

// The element that an HDF5 type is, if it is one of ours. A named type counts as what it names.
std::optional<Element> element_of_type(const Handle& type);

}  // namespace powerprefill::hdf5
