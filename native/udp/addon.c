// The Node addon: ports on the thread's event loop. Each thread (worker) that loads it has its own memory; nothing is
// shared between threads.
#include "abi.h"
#include "udp.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#define ROUNDS 4 // of system calls before other work of the loop has its turn
#define READY_PORTS 64 // told of in one turn of the loop
#define VALUES 8 // in a call from JavaScript

enum { RECEIVED, WRITABLE, FAILED, ICMP }; // what a port's callback is told, with a number: messages, –, errno, errors

// The ports of a thread wait in an epoll of their own, which is all that libuv sees of them: a relay opens and closes
// thousands, and a handle of libuv's is five system calls more for each.
struct thread {
  struct received in;
  struct outgoing out;
  napi_env env;
  napi_ref on_event; // one for all ports: called with the port as `this`
  int epoll;
  uv_handle_t *poll; // of the epoll
  int watched;       // ports in it
  struct handle *open;
  struct epoll_event ready[READY_PORTS]; // being told of: [next, count) is still to come
  int next, count;
  napi_async_cleanup_hook_handle cleanup;
};

struct handle {
  struct port port;
  struct thread *thread;
  uint32_t events; // in the epoll; 0: it is not there
  bool closed;
  int owners; // JavaScript's object and whoever calls it: the last one to let go frees this
  napi_ref self; // the port's object, which holds the handle
  struct handle *after, **here; // of the thread's open ports
};

static napi_value fail(napi_env env, int error) {
  // JavaScript makes the error: a thrown number's text is its whole message.
  char text[12];
  int at = sizeof text;
  text[--at] = 0;
  do text[--at] = '0' + error % 10;
  while ((error /= 10) > 0);
  napi_throw_error(env, "ERRNO", text + at);
  return NULL;
}

static napi_value number(napi_env env, int value) {
  napi_value result = NULL;
  napi_create_int32(env, value, &result);
  return result;
}

static void release(struct handle *h) {
  if (--h->owners == 0) free(h);
}

static void on_collected(napi_env env, void *data, void *hint) {
  (void)env, (void)hint;
  release(data);
}

// Calls JavaScript from the event loop. Nothing that it throws may pass silently.
static void tell(struct handle *h, int what, int detail) {
  napi_env env = h->thread->env;
  napi_handle_scope scope;
  napi_open_handle_scope(env, &scope);
  napi_value self, target, arguments[2] = {number(env, what), number(env, detail)}, error;
  napi_get_reference_value(env, h->self, &self);
  napi_get_reference_value(env, h->thread->on_event, &target);
  if (napi_make_callback(env, NULL, self, target, 2, arguments, NULL) != 0) {
    bool thrown = false;
    napi_is_exception_pending(env, &thrown);
    if (thrown && napi_get_and_clear_last_exception(env, &error) == 0) napi_fatal_exception(env, error);
  }
  napi_close_handle_scope(env, scope);
}

static void on_ready(uv_handle_t *poll, int status, int events);

// Returns 0 or an errno.
static int want(struct handle *h, uint32_t events) {
  struct thread *thread = h->thread;
  if (h->closed || h->events == events) return 0;
  struct epoll_event event = {.events = events, .data.ptr = h};
  if (epoll_ctl(thread->epoll, h->events == 0 ? EPOLL_CTL_ADD : EPOLL_CTL_MOD, h->port.fd, &event) < 0) return errno;
  // Ports that receive keep the loop alive.
  if (h->events == 0 && thread->watched++ == 0) uv_poll_start(thread->poll, UV_READABLE, on_ready);
  h->events = events;
  return 0;
}

static void receive(struct handle *h) {
  for (int round = 0; round < ROUNDS && !h->closed; round++) {
    int count = port_receive(&h->port, &h->thread->in);
    if (count == -EAGAIN || count == -EWOULDBLOCK) return;
    tell(h, count < 0 ? FAILED : RECEIVED, count < 0 ? -count : count);
    if (count >= 0 && count < RECEIVE_MESSAGES) return;
  }
}

static void attend(struct handle *h, uint32_t events) {
  h->owners++; // a callback may close the port
  if (events & EPOLLERR && h->port.errors) {
    // One batch: those of a flood wait, so that datagrams have their turn.
    int count = port_receive_errors(&h->port, &h->thread->in);
    if (count > 0) tell(h, ICMP, count);
  }
  // Of an error that is not on that queue the receive hears.
  if (events & (EPOLLIN | EPOLLERR) && !h->closed) receive(h);
  if (events & EPOLLOUT && !h->closed) {
    want(h, EPOLLIN);
    tell(h, WRITABLE, 0);
  }
  release(h);
}

static void on_ready(uv_handle_t *poll, int status, int events) {
  (void)status, (void)events;
  struct thread *thread = uv_handle_get_data(poll);
  thread->count = epoll_wait(thread->epoll, thread->ready, READY_PORTS, 0);
  for (thread->next = 0; thread->next < thread->count;) {
    const struct epoll_event *event = &thread->ready[thread->next++];
    if (event->data.ptr != NULL) attend(event->data.ptr, event->events);
  }
  thread->count = 0;
}

static void shut(struct handle *h) {
  struct thread *thread = h->thread;
  if (h->closed) return;
  h->closed = true;
  if (h->events != 0) {
    // Closing is not enough: a child process may hold the socket, too.
    epoll_ctl(thread->epoll, EPOLL_CTL_DEL, h->port.fd, NULL);
    if (--thread->watched == 0) uv_poll_stop(thread->poll);
  }
  close(h->port.fd);
  for (int i = thread->next; i < thread->count; i++) {
    if (thread->ready[i].data.ptr == h) thread->ready[i].data.ptr = NULL;
  }
  *h->here = h->after;
  if (h->after != NULL) h->after->here = h->here;
  napi_delete_reference(thread->env, h->self);
}

static void on_poll_closed(uv_handle_t *poll) {
  struct thread *thread = uv_handle_get_data(poll);
  free(poll);
  close(thread->epoll);
  napi_remove_async_cleanup_hook(thread->cleanup);
}

// No JavaScript runs any more, but the loop turns until on_poll_closed.
static void on_thread_end(napi_async_cleanup_hook_handle hook, void *data) {
  (void)hook;
  struct thread *thread = data;
  while (thread->open != NULL) shut(thread->open);
  uv_close(thread->poll, on_poll_closed);
}

// Of a typed array, which is kept for as long as the thread lives.
static void *memory(napi_env env, napi_value array) {
  void *data = NULL;
  napi_ref keep;
  if (napi_get_typedarray_info(env, array, NULL, NULL, &data, NULL, NULL) != 0) return NULL;
  napi_create_reference(env, array, 1, &keep);
  return data;
}

static int integer(napi_env env, napi_value value) {
  int32_t result = 0;
  napi_get_value_int32(env, value, &result);
  return result;
}

static struct handle *handle_of(napi_env env, napi_callback_info info, napi_value *values) {
  size_t count = VALUES;
  napi_value self;
  void *data = NULL;
  napi_get_cb_info(env, info, &count, values, &self, NULL);
  napi_get_value_external(env, values[0], &data);
  return data;
}

static struct thread *thread_of(napi_env env, napi_callback_info info, napi_value *values) {
  size_t count = VALUES;
  napi_value self;
  struct thread *thread;
  napi_get_cb_info(env, info, &count, values, &self, NULL);
  napi_get_instance_data(env, (void **)&thread);
  return thread;
}

static int join_loop(napi_env env, struct thread *thread) {
  uv_loop_t *loop;
  thread->env = env;
  thread->epoll = epoll_create1(EPOLL_CLOEXEC);
  if (thread->epoll < 0) return errno;
  thread->poll = calloc(1, uv_handle_size(UV_POLL));
  if (thread->poll == NULL || napi_get_uv_event_loop(env, &loop) != 0 ||
      uv_poll_init(loop, thread->poll, thread->epoll) != 0) {
    free(thread->poll);
    close(thread->epoll);
    return EIO;
  }
  uv_handle_set_data(thread->poll, thread);
  napi_add_async_cleanup_hook(env, on_thread_end, thread, &thread->cleanup);
  return 0;
}

// setUp(onEvent: (this: port, what, detail) => void, received: Uint8Array, info: Int32Array, bytes: Uint8Array, state: Int32Array): where this thread's datagrams
// are received and collected. `state`: [failures, 5 × SEND_DATAGRAMS of datagrams, 2 × SEND_DATAGRAMS of failed].
static napi_value set_up(napi_env env, napi_callback_info info) {
  napi_value values[VALUES];
  struct thread *thread = thread_of(env, info, values);
  int error = join_loop(env, thread);
  if (error != 0) return fail(env, error);
  napi_create_reference(env, values[0], 1, &thread->on_event);
  thread->in.bytes = memory(env, values[1]);
  thread->in.info = memory(env, values[2]);
  thread->out.bytes = memory(env, values[3]);
  int32_t *state = memory(env, values[4]);
  thread->out.failures = state;
  thread->out.datagrams = (void *)(state + 1);
  thread->out.failed = (void *)(state + 1 + 5 * SEND_DATAGRAMS);
  return NULL;
}

// The handle of the port `self`. `error`: what opening it met.
static napi_value handle_for(napi_env env, napi_value self, struct thread *thread, struct handle *h, int error) {
  if (error != 0) {
    free(h);
    return fail(env, error);
  }
  h->owners = 1;
  h->thread = thread;
  h->after = thread->open;
  h->here = &thread->open;
  if (h->after != NULL) h->after->here = &h->after;
  thread->open = h;
  napi_value result;
  napi_create_external(env, h, on_collected, NULL, &result);
  napi_create_reference(env, self, 1, &h->self);
  return result;
}

// open(self, address, port, receiveBuffer, reusePort) → the handle of the port `self`, or throws ERRNO.
static napi_value open_port(napi_env env, napi_callback_info info) {
  napi_value values[VALUES];
  struct thread *thread = thread_of(env, info, values);
  char text[64];
  union address at;
  napi_get_value_string_utf8(env, values[1], text, sizeof text, NULL);
  int error = parse_address(text, integer(env, values[2]), &at);
  if (error != 0) return fail(env, error);
  struct handle *h = calloc(1, sizeof *h);
  if (h == NULL) return fail(env, ENOMEM);
  return handle_for(env, values[0], thread, h,
                    port_open(&h->port, &at, integer(env, values[3]), integer(env, values[4]) != 0));
}

// adopt(self, fd) → the handle of the port `self` on a socket that another process has bound, or throws ERRNO.
static napi_value adopt_port(napi_env env, napi_callback_info info) {
  napi_value values[VALUES];
  struct thread *thread = thread_of(env, info, values);
  struct handle *h = calloc(1, sizeof *h);
  if (h == NULL) return fail(env, ENOMEM);
  return handle_for(env, values[0], thread, h, port_adopt(&h->port, integer(env, values[1])));
}

// describe(handle) → { fd, port, receiveBuffer, gso, gro }
static napi_value describe(napi_env env, napi_callback_info info) {
  napi_value values[VALUES], result;
  struct handle *h = handle_of(env, info, values);
  napi_create_object(env, &result);
  napi_set_named_property(env, result, "fd", number(env, h->port.fd));
  napi_set_named_property(env, result, "port", number(env, h->port.number));
  napi_set_named_property(env, result, "receiveBuffer", number(env, port_receive_buffer(&h->port)));
  napi_set_named_property(env, result, "gso", number(env, h->port.gso));
  napi_set_named_property(env, result, "gro", number(env, h->port.gro));
  return result;
}

// start(handle, errors): begins to receive; ICMP errors, too, where they are wanted. Throws ERRNO.
static napi_value start(napi_env env, napi_callback_info info) {
  napi_value values[VALUES];
  struct handle *h = handle_of(env, info, values);
  if (integer(env, values[1]) != 0) port_watch_errors(&h->port);
  int error = want(h, EPOLLIN);
  return error == 0 ? NULL : fail(env, error);
}

// setRemote(slot, address, port): where the datagrams go that name this slot. Throws ERRNO.
static napi_value set_remote(napi_env env, napi_callback_info info) {
  napi_value values[VALUES];
  struct thread *thread = thread_of(env, info, values);
  char text[64];
  napi_get_value_string_utf8(env, values[1], text, sizeof text, NULL);
  union address remote;
  int error = parse_address(text, integer(env, values[2]), &remote);
  if (error != 0) return fail(env, error);
  thread->out.remotes[integer(env, values[0]) & (REMOTES - 1)] = remote;
  return NULL;
}

// send(handle, first) → the first datagram of the chain that has to wait for WRITABLE, or NONE.
static napi_value send_out(napi_env env, napi_callback_info info) {
  napi_value values[VALUES];
  struct handle *h = handle_of(env, info, values);
  if (h->closed) return number(env, NONE);
  int next = port_send(&h->port, &h->thread->out, integer(env, values[1]));
  if (next != NONE) want(h, EPOLLIN | EPOLLOUT);
  return number(env, next);
}

// addressOf(message) → the text of who sent message i of those being told of; of an ICMP error, where its datagram went.
static napi_value address_of(napi_env env, napi_callback_info info) {
  napi_value values[VALUES], result;
  struct thread *thread = thread_of(env, info, values);
  char text[64];
  print_address(&thread->in.from[integer(env, values[0]) & (RECEIVE_MESSAGES - 1)], text, sizeof text);
  napi_create_string_utf8(env, text, NAPI_AUTO_LENGTH, &result);
  return result;
}

// close(handle): the port is free when this returns.
static napi_value close_port(napi_env env, napi_callback_info info) {
  napi_value values[VALUES];
  shut(handle_of(env, info, values));
  return NULL;
}

static void on_unload(napi_env env, void *data, void *hint) {
  (void)env, (void)hint;
  free(data);
}

__attribute__((visibility("default"))) int32_t node_api_module_get_api_version_v1(void) { return 8; }

__attribute__((visibility("default"))) napi_value napi_register_module_v1(napi_env env, napi_value exports) {
  struct thread *thread = calloc(1, sizeof *thread);
  if (thread == NULL) return fail(env, ENOMEM);
  napi_set_instance_data(env, thread, on_unload, NULL);
  static const struct { const char *name; napi_callback call; } functions[] = {
      {"setUp", set_up}, {"open", open_port}, {"adopt", adopt_port}, {"describe", describe},    {"start", start},
      {"setRemote", set_remote}, {"send", send_out},  {"addressOf", address_of}, {"close", close_port},
  };
  for (size_t i = 0; i < sizeof functions / sizeof *functions; i++) {
    napi_value function;
    napi_create_function(env, functions[i].name, NAPI_AUTO_LENGTH, functions[i].call, NULL, &function);
    napi_set_named_property(env, exports, functions[i].name, function);
  }
  napi_value hash;
  napi_create_string_utf8(env, SOURCE_HASH, NAPI_AUTO_LENGTH, &hash);
  napi_set_named_property(env, exports, "sourceHash", hash);
  return exports;
}
