"""Where messages go: retained messages, subscriptions, and the delivery of one message to all who read it."""

from collections import Counter
from dataclasses import replace

from embedded_broker.outputs import Output, RetainedRemoved, RetainedSaved, SubscriptionRemoved, SubscriptionSaved
from embedded_broker.packets import Publish, Subscription, Will
from embedded_broker.reasons import Reason
from embedded_broker.session import Session
from embedded_broker.state import Access, Authorizer, BrokerConfig, Message, SessionKey
from embedded_broker.topics import is_filter, is_shared
from embedded_broker.trie import SubscriptionTrie, TopicTree


class Router:
    """The subscriptions and retained messages of all sessions.

    Attributes:
        sessions: Every session by its key.
    """

    def __init__(self, config: BrokerConfig, authorize: Authorizer) -> None:
        self.sessions: dict[SessionKey, Session] = {}
        self._counts: Counter[str | None] = Counter()
        self._config = config
        self._authorize = authorize
        self._subscriptions = SubscriptionTrie()
        self._retained: TopicTree[Message] = TopicTree()

    def obey(self, authorize: Authorizer) -> None:
        """Decide by another ACL from now on."""
        self._authorize = authorize

    def may(self, session: Session, access: Access, topic: str) -> bool:
        """Tell whether the ACL lets a session's user do this."""
        return self._authorize(*session.key, access, topic)

    def add_session(self, session: Session) -> None:
        """Take a session in, with the subscriptions it has."""
        self.sessions[session.key] = session
        self._counts[session.key.user] += 1
        for subscription in session.subscriptions.values():
            self._subscriptions.add(session.key, subscription)

    def remove_session(self, session: Session) -> None:
        """Forget a session and its subscriptions."""
        for topic_filter in session.subscriptions:
            self._subscriptions.remove(session.key, topic_filter)
        del self.sessions[session.key]
        self._counts[session.key.user] -= 1
        if not self._counts[session.key.user]:
            del self._counts[session.key.user]

    def count_of(self, user: str | None) -> int:
        """Return how many sessions a user has."""
        return self._counts[user]

    def retained(self) -> tuple[Message, ...]:
        """All retained messages, oldest topic first."""
        return tuple(self._retained.values())

    def keep_retained(self, message: Message) -> None:
        """Bring a retained message back."""
        self._retained.set(message.packet.topic, message)

    def accept(self, packet: Publish, source: SessionKey, now: float, out: list[Output]) -> Reason:
        """Retain a message if it says so, and deliver it.

        Returns:
            SUCCESS; NO_MATCHING_SUBSCRIBERS, a success as well; or QUOTA_EXCEEDED, and nothing was done.
        """
        expiry_seconds = packet.properties.message_expiry_seconds
        message = Message(packet, None if expiry_seconds is None else now + expiry_seconds)
        if packet.retain and not self._retain(message, out):
            return Reason.QUOTA_EXCEEDED
        matches = self._subscriptions.match(packet.topic)
        for key, subscriptions in matches:
            wanted = tuple(one for one in subscriptions if not one.no_local) if key == source else subscriptions
            self._deliver(self.sessions[key], message, wanted, now, out)
        return Reason.SUCCESS if matches else Reason.NO_MATCHING_SUBSCRIBERS

    def publish_will(self, session: Session, will: Will, now: float, out: list[Output]) -> None:
        """Publish a client's will, if its user may write there."""
        if self.may(session, Access.WRITE, will.topic):
            properties = replace(will.properties, will_delay_seconds=None)
            packet = Publish(will.topic, will.payload, will.qos, will.retain, properties=properties)
            self.accept(packet, session.key, now, out)

    def subscribe(self, session: Session, wanted: Subscription, out: list[Output]) -> tuple[int, bool]:
        """Add or replace a subscription.

        Returns:
            The granted QoS or an error, and whether the retained messages are to be sent.
        """
        if is_shared(wanted.filter):
            return Reason.SHARED_SUBSCRIPTIONS_NOT_SUPPORTED, False
        if not is_filter(wanted.filter, levels_max=self._config.levels_max):
            return Reason.TOPIC_FILTER_INVALID, False
        is_new = wanted.filter not in session.subscriptions
        if is_new and len(session.subscriptions) >= self._config.subscriptions_max:
            return Reason.QUOTA_EXCEEDED, False
        session.subscriptions[wanted.filter] = wanted
        self._subscriptions.add(session.key, wanted)
        if session.is_recorded:
            out.append(SubscriptionSaved(session.key, wanted))
        return wanted.qos, wanted.retain_handling == 0 or (wanted.retain_handling == 1 and is_new)

    def unsubscribe(self, session: Session, topic_filter: str, out: list[Output]) -> Reason:
        """Remove a subscription, if it is there."""
        if session.subscriptions.pop(topic_filter, None) is None:
            return Reason.NO_SUBSCRIPTION_EXISTED
        self._subscriptions.remove(session.key, topic_filter)
        if session.is_recorded:
            out.append(SubscriptionRemoved(session.key, topic_filter))
        return Reason.SUCCESS

    def send_retained(self, session: Session, subscription: Subscription, now: float, out: list[Output]) -> None:
        """Deliver the retained messages under a new subscription, removing those that have expired."""
        for message in self._retained.match(subscription.filter):
            packet = message.packet
            if message.is_expired(now):
                self._clear_retained(packet.topic, out)
            elif self.may(session, Access.READ, packet.topic):
                session.deliver(
                    message,
                    min(packet.qos, subscription.qos),
                    retain=True,
                    identifiers=() if subscription.identifier is None else (subscription.identifier,),
                    now=now,
                    queued_max=self._config.queued_max,
                    out=out,
                )

    def _deliver(
        self, session: Session, message: Message, subscriptions: tuple[Subscription, ...], now: float, out: list[Output]
    ) -> None:
        """Deliver once, with the highest QoS, whatever the number of matching subscriptions.

        Source:
            MQTT 5.0, section 3.3.4.
        """
        packet = message.packet
        if not subscriptions or not self.may(session, Access.READ, packet.topic):
            return
        session.deliver(
            message,
            min(packet.qos, max(one.qos for one in subscriptions)),
            retain=packet.retain and any(one.retain_as_published for one in subscriptions),
            identifiers=tuple(one.identifier for one in subscriptions if one.identifier is not None),
            now=now,
            queued_max=self._config.queued_max,
            out=out,
        )

    def _retain(self, message: Message, out: list[Output]) -> bool:
        topic = message.packet.topic
        is_held = topic in self._retained
        if not message.packet.payload:
            if is_held:
                self._clear_retained(topic, out)
            return True
        if not is_held and len(self._retained) >= self._config.retained_max:
            return False
        self._retained.set(topic, message)
        if self._config.is_durable:
            out.append(RetainedSaved(message))
        return True

    def _clear_retained(self, topic: str, out: list[Output]) -> None:
        self._retained.remove(topic)
        if self._config.is_durable:
            out.append(RetainedRemoved(topic))
