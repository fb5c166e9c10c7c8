// scored.hpp: rows leave by scores that somebody else gives, asked for a few residents at a time.
//
// Where no row is advised to leave, some residents are drawn at random and scored; those with the
// lowest scores are advised, to leave one after another unless they are accessed before. Where
// there is nobody to score, the least recently used row leaves. Another policy may stand in for a
// while.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "../split_mix.hpp"
#include "advice.hpp"
#include "policy.hpp"
#include "set_aside.hpp"
#include "slot_lists.hpp"

namespace tieralloc {

class RowScorer {
 public:
  virtual ~RowScorer() = default;

  /// Writes finite scores, the lowest for what should leave first.
  virtual void score(std::span<const RowId> rows, float* scores) = 0;
};

class ScoredPolicy final : public EvictionPolicy {
 public:
  /// Of `candidates` draws, up to `victims` rows are advised. Throws std::invalid_argument where
  /// there are no victims, or more of them than candidates.
  ScoredPolicy(const EvictionConfig& config, std::uint32_t candidates, std::uint32_t victims);

  /// Who scores from now on; null: nobody.
  void set_scorer(RowScorer* scorer);

  /// Who decides in its stead from now on, holding nothing yet; null: nobody. What was fetched
  /// ahead leaves first then.
  void set_stand_in(std::unique_ptr<EvictionPolicy> policy);

  /// What was fetched ahead and not asked for leaves first now.
  void give_up_prefetched() { set_aside_.shrink(); }

  void insert(Slot slot, RowId row) override;
  void insert_prefetched(Slot slot, RowId row) override;
  void touch(std::span<const Slot> slots) override;
  Slot evict() override;
  void remove(Slot slot) override;
  void move(Slot from, Slot to) override;

 private:
  enum : std::uint32_t { kOrder, kSetAside, kLists };
  struct Scored {
    float score;
    Slot slot;
  };

  void hold(Slot slot);
  Slot choose();
  void advise();
  void release(Slot slot);
  void withdraw(Slot slot);

  RowScorer* scorer_ = nullptr;
  std::unique_ptr<EvictionPolicy> stand_in_;  ///< holds what is held here; null: nobody
  std::uint32_t candidates_;
  std::uint32_t victims_;
  SplitMix64 random_;
  SlotLists order_;                      ///< the least recently used first
  std::vector<RowId> row_in_;            ///< by slot
  std::vector<Slot> held_;               ///< in no order
  std::vector<std::uint32_t> position_;  ///< by slot, in held_
  SetAside set_aside_;                   ///< slots
  Advice advice_;                        ///< of slots
};

}  // namespace tieralloc
