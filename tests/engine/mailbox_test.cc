#include "engine/schedule/mailbox.h"

#include <gtest/gtest.h>

#include <thread>

#include "absl/time/clock.h"

namespace mambad {
namespace {

TEST(MailboxTest, KeepsCommandsInOrder) {
  Mailbox mailbox;
  mailbox.Submit({}, nullptr, absl::UnixEpoch());
  ASSERT_TRUE(mailbox.PostVerb(GetCommand{{"a"}, absl::InfiniteFuture(), nullptr}));
  mailbox.PostDrain({});
  const Mailbox::Taken taken = mailbox.TakeAll();
  ASSERT_EQ(taken.commands.size(), 3u);
  EXPECT_TRUE(std::holds_alternative<SubmitCommand>(taken.commands[0]));
  EXPECT_TRUE(std::holds_alternative<GetCommand>(taken.commands[1]));
  EXPECT_TRUE(std::holds_alternative<DrainCommand>(taken.commands[2]));
  EXPECT_TRUE(mailbox.TakeAll().commands.empty());
}

TEST(MailboxTest, BoundsVerbsAndLeavesARefusedOneWhole) {
  Mailbox mailbox;
  for (size_t i = 0; i < Mailbox::kVerbsMax; ++i) {
    ASSERT_TRUE(mailbox.PostVerb(GetCommand{{"a"}, absl::InfiniteFuture(), nullptr}));
  }
  Command refused = GetCommand{{"b"}, absl::InfiniteFuture(), nullptr};
  EXPECT_FALSE(mailbox.PostVerb(std::move(refused)));
  EXPECT_EQ(std::get<GetCommand>(refused).request.id, "b");
  mailbox.TakeAll();
  EXPECT_TRUE(mailbox.PostVerb(std::move(refused)));
}

TEST(MailboxTest, PassesOnTheFirstCancelOfEachOpenRequest) {
  const absl::Status cancelled = absl::CancelledError();
  Mailbox mailbox;
  const RequestTicket first = mailbox.Submit({}, nullptr, absl::UnixEpoch()).value();
  const RequestTicket second = mailbox.Submit({}, nullptr, absl::UnixEpoch()).value();
  EXPECT_NE(first, second);
  mailbox.Cancel(first, absl::ResourceExhaustedError("too large"));
  mailbox.Cancel(first, cancelled);
  mailbox.Cancel(second + 1, cancelled);
  const Mailbox::Taken taken = mailbox.TakeAll();
  ASSERT_EQ(taken.cancels.size(), 1u);
  EXPECT_EQ(taken.cancels[0].ticket, first);
  EXPECT_EQ(taken.cancels[0].status, absl::ResourceExhaustedError("too large"));
  mailbox.Cancel(first, cancelled);
  EXPECT_TRUE(mailbox.Close(second));
  mailbox.Cancel(second, cancelled);
  EXPECT_TRUE(mailbox.TakeAll().cancels.empty());
}

TEST(MailboxTest, GivingUpHandsOverWhatIsOpenAndTakesNothingMore) {
  Mailbox mailbox;
  const RequestTicket taken = mailbox.Submit({}, nullptr, absl::UnixEpoch()).value();
  ASSERT_TRUE(mailbox.PostVerb(GetCommand{{"before"}, absl::InfiniteFuture(), nullptr}));
  mailbox.TakeAll();
  ASSERT_TRUE(mailbox.PostVerb(GetCommand{{"taken"}, absl::InfiniteFuture(), nullptr}));
  mailbox.TakeAll();
  mailbox.Submit({.method = Method::kScore}, nullptr, absl::UnixEpoch());
  ASSERT_TRUE(mailbox.PostVerb(GetCommand{{"a"}, absl::InfiniteFuture(), nullptr}));
  const Mailbox::GivenUp left = mailbox.GiveUp();
  ASSERT_EQ(left.open.size(), 2u);
  for (const Mailbox::Open& open : left.open) EXPECT_EQ(open.taken, open.method != Method::kScore);
  EXPECT_EQ(left.commands.size(), 2u);
  ASSERT_EQ(left.taken.size(), 1u);
  EXPECT_EQ(std::get<GetCommand>(left.taken[0]).request.id, "taken");
  EXPECT_FALSE(mailbox.Close(taken)) << "its end is another's";
  EXPECT_FALSE(mailbox.Submit({}, nullptr, absl::UnixEpoch()).has_value());
  EXPECT_FALSE(mailbox.PostVerb(GetCommand{{"a"}, absl::InfiniteFuture(), nullptr}));
  EXPECT_TRUE(mailbox.TakeAll().commands.empty());
  EXPECT_TRUE(mailbox.GiveUp().open.empty());
}

TEST(MailboxTest, WaitReturnsForWhatWasPostedBefore) {
  Mailbox mailbox;
  mailbox.Wake();
  mailbox.WaitUntil(absl::InfiniteFuture());
  mailbox.TakeAll();
  mailbox.WaitUntil(absl::Now());  // nothing was posted: the time ends it
}

TEST(MailboxTest, PostingWakesTheSleeper) {
  Mailbox mailbox;
  std::thread sleeper([&] {
    size_t taken = 0;
    while (taken < 100) {
      mailbox.WaitUntil(absl::InfiniteFuture());
      taken += mailbox.TakeAll().commands.size();
    }
  });
  for (int i = 0; i < 100; ++i) mailbox.Submit({}, nullptr, absl::UnixEpoch());
  sleeper.join();
}

}  // namespace
}  // namespace mambad
