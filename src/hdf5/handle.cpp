#include "hdf5/handle.hpp"

#include <hdf5.h>

#include <type_traits>

namespace powerprefill::hdf5 {

static_assert(std::is_same_v<hid_t, std::int64_t>);

Handle::~Handle() {
  if (id_ >= 0) H5Idec_ref(id_);
}

}  // namespace powerprefill::hdf5
