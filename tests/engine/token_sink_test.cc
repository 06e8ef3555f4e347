#include "engine/token_sink.h"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>

namespace mambad {
namespace {

TokenEvent Delta(uint32_t token) {
  DeltaEvent delta;
  delta.token_ids = {token};
  return delta;
}

TEST(TokenSinkTest, HandsOutEventsInOrder) {
  TokenSink sink(8, nullptr);
  sink.Push(StartedEvent{});
  for (uint32_t i = 0; i < 5; ++i) sink.Push(Delta(i));
  sink.Push(EndEvent{});
  EXPECT_TRUE(std::holds_alternative<StartedEvent>(*sink.Pop()));
  for (uint32_t i = 0; i < 5; ++i) EXPECT_EQ(std::get<DeltaEvent>(*sink.Pop()).token_ids[0], i);
  EXPECT_TRUE(std::holds_alternative<EndEvent>(*sink.Pop()));
  EXPECT_FALSE(sink.Pop().has_value());
}

TEST(TokenSinkTest, DropsWhatComesAfterItWasGivenUp) {
  TokenSink sink(8, nullptr);
  sink.Push(Delta(1));
  sink.GiveUp({.status = absl::InternalError("lost"), .usage = {}, .session = {}});
  sink.Push(Delta(2));
  sink.Push(EndEvent{});
  EXPECT_TRUE(std::holds_alternative<DeltaEvent>(*sink.Pop()));
  EXPECT_TRUE(absl::IsInternal(std::get<EndEvent>(*sink.Pop()).status));
  EXPECT_FALSE(sink.Pop().has_value());
}

TEST(TokenSinkTest, BoundsDeltasAndAlwaysTakesTheRest) {
  TokenSink sink(2, nullptr);
  sink.Attach(1, nullptr);
  sink.Push(StartedEvent{});
  sink.Push(Delta(1));
  EXPECT_TRUE(sink.HasRoom(1));
  sink.Push(Delta(2));
  EXPECT_FALSE(sink.HasRoom(1));
  sink.Push(FinishedEvent{});
  sink.Push(EndEvent{});
}

TEST(TokenSinkTest, HoldsWhatOneTickPushesHoweverSmallItIs) {
  TokenSink sink(1, nullptr);
  sink.Attach(5, nullptr);
  EXPECT_TRUE(sink.HasRoom(5));
  sink.Push(Delta(1));
  EXPECT_FALSE(sink.HasRoom(5));
  EXPECT_TRUE(sink.HasRoom(4));
}

TEST(TokenSinkTest, CallsForTheRoomThatWasAskedForOnce) {
  int calls = 0;
  TokenSink sink(4, nullptr);
  sink.Attach(3, [&] { ++calls; });
  for (uint32_t i = 0; i < 4; ++i) sink.Push(Delta(i));
  sink.Pop();
  EXPECT_EQ(calls, 0);  // nobody asked
  EXPECT_FALSE(sink.HasRoom(3));
  sink.Pop();
  EXPECT_EQ(calls, 0);  // room for two
  sink.Pop();
  EXPECT_EQ(calls, 1);
  sink.Pop();
  EXPECT_EQ(calls, 1);
}

TEST(TokenSinkTest, ForgetsTheEngineAtTheEnd) {
  int calls = 0;
  TokenSink sink(1, nullptr);
  sink.Attach(1, [&] { ++calls; });
  sink.Push(Delta(1));
  EXPECT_FALSE(sink.HasRoom(1));
  sink.Push(EndEvent{});
  while (sink.Pop()) {
  }
  EXPECT_EQ(calls, 0);
}

TEST(TokenSinkTest, TellsTheReaderWhenARingIsNoLongerEmpty) {
  int calls = 0;
  TokenSink sink(4, [&] { ++calls; });
  sink.Push(Delta(1));
  sink.Push(Delta(2));
  EXPECT_EQ(calls, 1);
  sink.Pop();
  sink.Pop();
  sink.Push(Delta(3));
  EXPECT_EQ(calls, 2);
}

TEST(TokenSinkTest, LosesNothingBetweenTwoThreads) {
  constexpr uint32_t kTokens = 20000;
  std::atomic<uint32_t> wakes{0};
  TokenSink sink(3, nullptr);
  sink.Attach(1, [&] { ++wakes; });
  std::thread engine([&] {
    for (uint32_t i = 0; i < kTokens; ++i) {
      while (!sink.HasRoom(1)) std::this_thread::yield();
      sink.Push(Delta(i));
    }
    sink.Push(EndEvent{});
  });
  uint32_t next = 0;
  while (true) {
    const std::optional<TokenEvent> event = sink.Pop();
    if (!event) {
      std::this_thread::yield();
    } else if (std::holds_alternative<EndEvent>(*event)) {
      break;
    } else {
      ASSERT_EQ(std::get<DeltaEvent>(*event).token_ids[0], next++);
    }
  }
  engine.join();
  EXPECT_EQ(next, kTokens);
}

}  // namespace
}  // namespace mambad
