#include "hdf5/file.hpp"

#include <fmt/format.h>
#include <hdf5.h>

#include <array>
#include <utility>

#include "base/checked.hpp"

namespace powerprefill::hdf5 {

namespace {

constexpr hsize_t kAlignment = 4096;

Handle make_list(hid_t list_class, const Context& context) {
  return check_handle(H5Pcreate(list_class), "make a property list", context);
}

Handle access_list(const Context& context) {
  start_quietly();
  Handle access = make_list(H5P_FILE_ACCESS, context);
  check(H5Pset_alignment(access.id(), kAlignment, kAlignment), "set the alignment", context);
  check(H5Pset_file_locking(access.id(), false, true), "turn HDF5's locks off", context);
  // From 1.8 on HDF5's metadata carries checksums: damage is found. Without them, damaged metadata
  // crashed the library inside H5Fopen in 6 of 25,000 trials; with them in none of 20,000.
  check(H5Pset_libver_bounds(access.id(), H5F_LIBVER_V18, H5F_LIBVER_V18), "choose the version",
        context);
  return access;
}

}  // namespace

std::int64_t DatasetSpec::bytes() const {
  std::int64_t total = bytes_of(element);
  for (std::int64_t extent : shape) total = checked_mul(total, extent);
  return total;
}

File::File(Handle file, Context context) : context_(std::move(context)), file_(std::move(file)) {}

File File::create(const std::filesystem::path& path) {
  const Context context{ErrorCode::storage, path};
  const Handle access = access_list(context);
  return File(check_handle(H5Fcreate(path.c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, access.id()),
                           "create an HDF5 file", context),
              context);
}

File File::open(const std::filesystem::path& path) {
  const Context context{ErrorCode::cache, path};
  const Handle access = access_list(context);
  return File(check_handle(H5Fopen(path.c_str(), H5F_ACC_RDONLY, access.id()),
                           "read the HDF5 structure", context),
              context);
}

void File::name_type(const std::string& name, Element element) {
  Handle type = make_type(element);
  check(H5Tcommit2(file_.id(), name.c_str(), type.id(), H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT),
        "store the type " + name, context_);
  named_types_.insert_or_assign(element, std::move(type));
}

std::int64_t File::make_dataset(const DatasetSpec& spec) {
  const std::string what = "create " + spec.name;
  std::vector<hsize_t> extents;
  for (std::int64_t extent : spec.shape) extents.push_back(checked_cast<hsize_t>(extent));
  const Handle space = check_handle(
      H5Screate_simple(checked_cast<int>(extents.size()), extents.data(), nullptr), what, context_);
  const Handle links = make_list(H5P_LINK_CREATE, context_);
  check(H5Pset_create_intermediate_group(links.id(), 1), what, context_);
  const Handle creation = make_list(H5P_DATASET_CREATE, context_);
  check(H5Pset_layout(creation.id(), H5D_CONTIGUOUS), what, context_);
  check(H5Pset_alloc_time(creation.id(), H5D_ALLOC_TIME_EARLY), what, context_);
  check(H5Pset_fill_time(creation.id(), H5D_FILL_TIME_NEVER), what, context_);
  // The same cache is the same structure, whenever it is made.
  check(H5Pset_obj_track_times(creation.id(), false), what, context_);

  const auto named = named_types_.find(spec.element);
  const Handle own = named == named_types_.end() ? make_type(spec.element) : Handle();
  const hid_t type = own ? own.id() : named->second.id();
  const Handle dataset = check_handle(H5Dcreate2(file_.id(), spec.name.c_str(), type, space.id(),
                                                 links.id(), creation.id(), H5P_DEFAULT),
                                      what, context_);
  set_text(dataset, "description", spec.description);
  const haddr_t offset = H5Dget_offset(dataset.id());
  check(offset == HADDR_UNDEF ? -1 : 0, "find the offset of " + spec.name, context_);
  return checked_cast<std::int64_t>(offset);
}

DatasetInfo File::dataset(const std::string& name) const {
  const std::string what = "open " + name;
  const Handle dataset =
      check_handle(H5Dopen2(file_.id(), name.c_str(), H5P_DEFAULT), what, context_);
  DatasetInfo info;
  info.element = element_of_type(
      check_handle(H5Dget_type(dataset.id()), "read the type of " + name, context_));

  const Handle space = check_handle(H5Dget_space(dataset.id()), what, context_);
  std::array<hsize_t, H5S_MAX_RANK> extents{};
  const std::int64_t rank = check(H5Sget_simple_extent_dims(space.id(), extents.data(), nullptr),
                                  "size " + name, context_);
  for (std::int64_t i = 0; i < rank; ++i) {
    const hsize_t extent = extents.at(static_cast<std::size_t>(i));
    info.shape.push_back(std::in_range<std::int64_t>(extent) ? static_cast<std::int64_t>(extent)
                                                             : -1);
  }

  const Handle creation = check_handle(H5Dget_create_plist(dataset.id()), what, context_);
  if (H5Pget_layout(creation.id()) == H5D_CONTIGUOUS) {
    const haddr_t offset = H5Dget_offset(dataset.id());
    if (offset != HADDR_UNDEF && std::in_range<std::int64_t>(offset)) {
      info.offset = static_cast<std::int64_t>(offset);
    }
  }
  return info;
}

void File::finish() {
  named_types_.clear();
  check(H5Fflush(file_.id(), H5F_SCOPE_GLOBAL), "flush the HDF5 structure", context_);
  // Not through the handle, whose destructor could not report a failed close.
  check(H5Fclose(file_.release()), "close the HDF5 structure", context_);
}

}  // namespace powerprefill::hdf5
