// The attributes of hdf5::File.
#include <fmt/format.h>
#include <hdf5.h>

#include <cstring>
#include <utility>

#include "hdf5/file.hpp"

namespace powerprefill::hdf5 {

namespace {

Handle text_type(std::size_t length, const Context& context) {
  Handle type = check_handle(H5Tcopy(H5T_C_S1), "copy the text type", context);
  check(H5Tset_size(type.id(), length), "size the text type", context);
  check(H5Tset_strpad(type.id(), H5T_STR_NULLPAD), "pad the text type", context);
  check(H5Tset_cset(type.id(), H5T_CSET_UTF8), "choose UTF-8", context);
  return type;
}

Handle scalar(const Context& context) {
  return check_handle(H5Screate(H5S_SCALAR), "make a scalar", context);
}

}  // namespace

void File::set_text(const Handle& object, const std::string& name, const std::string& text) {
  const std::string what = "write the attribute " + name;
  if (text.size() > kLongestText) {
    throw Error(context_.code,
                fmt::format("cannot {} in {}: it has {} bytes, {} are possible", what,
                            context_.path.string(), text.size(), kLongestText));
  }
  // A fixed-length text has at least one byte, so that of an empty one is its padding.
  const Handle type = text_type(std::max<std::size_t>(text.size(), 1), context_);
  const Handle attribute = check_handle(H5Acreate2(object.id(), name.c_str(), type.id(),
                                                   scalar(context_).id(), H5P_DEFAULT, H5P_DEFAULT),
                                        what, context_);
  check(H5Awrite(attribute.id(), type.id(), text.c_str()), what, context_);
}

void File::set_number(const std::string& name, Element element, const void* value) {
  const std::string what = "write the attribute " + name;
  const Handle type = make_type(element);
  const Handle attribute = check_handle(H5Acreate2(file_.id(), name.c_str(), type.id(),
                                                   scalar(context_).id(), H5P_DEFAULT, H5P_DEFAULT),
                                        what, context_);
  check(H5Awrite(attribute.id(), type.id(), value), what, context_);
}

std::optional<StoredAttribute> File::find_attribute(const std::string& name) const {
  if (first_) return first_->attribute(name);
  const std::string what = "read the attribute " + name;
  if (check(H5Aexists(file_.id(), name.c_str()), what, context_) == 0) return std::nullopt;
  const Handle attribute =
      check_handle(H5Aopen(file_.id(), name.c_str(), H5P_DEFAULT), what, context_);
  const Handle space = check_handle(H5Aget_space(attribute.id()), what, context_);
  if (H5Sget_simple_extent_type(space.id()) != H5S_SCALAR) {
    throw Error(context_.code, fmt::format("the attribute {} of {} is not a single value", name,
                                           context_.path.string()));
  }
  const Handle type = check_handle(H5Aget_type(attribute.id()), what, context_);
  StoredAttribute found;
  found.type.bytes = H5Tget_size(type.id());
  found.type.element = element_of_type(type);
  found.type.is_text = H5Tget_class(type.id()) == H5T_STRING && H5Tis_variable_str(type.id()) == 0;
  // Of other types nothing is wanted, and some would be followed to elsewhere.
  if (!found.type.is_text && !found.type.element) return found;
  if (found.type.bytes > kLongestText) return found;
  found.value.assign(found.type.bytes, '\0');
  check(H5Aread(attribute.id(), type.id(), found.value.data()), what, context_);
  return found;
}

StoredAttribute File::require_attribute(const std::string& name) const {
  std::optional<StoredAttribute> found = find_attribute(name);
  if (found) return std::move(*found);
  throw Error(context_.code,
              fmt::format("{} lacks the attribute {}; it is damaged or not a file of powerprefill",
                          context_.path.string(), name));
}

void File::get_number(const std::string& name, Element element, void* value) const {
  const StoredAttribute found = require_attribute(name);
  if (found.type.element != element) {
    throw Error(context_.code, fmt::format("the attribute {} of {} is not of type {}", name,
                                           context_.path.string(), name_of(element)));
  }
  std::memcpy(value, found.value.data(), found.value.size());
}

void File::get_attribute(const std::string& name, std::string& text) const {
  StoredAttribute found = require_attribute(name);
  if (!found.type.is_text || found.type.bytes == 0 || found.type.bytes > kLongestText) {
    throw Error(context_.code,
                fmt::format("the attribute {} of {} is not a text of fixed length up to {} bytes",
                            name, context_.path.string(), kLongestText));
  }
  text = std::move(found.value);
  text.erase(text.find_last_not_of('\0') + 1);
}

void File::set_attribute(const std::string& name, const std::string& text) {
  set_text(file_, name, text);
}

void File::set_attribute(const std::string& name, std::int32_t value) {
  set_number(name, Element::i32, &value);
}
void File::set_attribute(const std::string& name, std::int64_t value) {
  set_number(name, Element::i64, &value);
}
void File::set_attribute(const std::string& name, std::uint64_t value) {
  set_number(name, Element::u64, &value);
}

void File::get_attribute(const std::string& name, std::int32_t& value) const {
  get_number(name, Element::i32, &value);
}
void File::get_attribute(const std::string& name, std::int64_t& value) const {
  get_number(name, Element::i64, &value);
}
void File::get_attribute(const std::string& name, std::uint64_t& value) const {
  get_number(name, Element::u64, &value);
}

}  // namespace powerprefill::hdf5
