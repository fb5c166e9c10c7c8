// operators.hpp: the operators of tieralloc.nn for programs without Python (AOTInductor, libtorch).
//
// Compile operators.cpp into the program, which links libtieralloc_core.so and libtorch, and attach
// a store before a model runs. A process with Python has the operators already: do not load both.
#pragma once

#include <memory>
#include <string>

#include "store/store.hpp"

namespace tieralloc::native {

/// Serves the lookups of models that have this name of a store: that of the store's file without
/// the folder, or the one of `tieralloc.nn.attach` before the export. Replaces a former store of
/// the name, which lives until its calls end. Any thread.
void attach(const std::string& name, std::shared_ptr<Store> store);

}  // namespace tieralloc::native
