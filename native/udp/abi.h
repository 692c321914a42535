// The part of Node-API (version 8) and of libuv 1 that the addon calls. Both promise a stable binary interface, so their
// declarations are all it takes to compile: no headers to find or to download where a user's machine compiles this.
// https://nodejs.org/docs/latest-v20.x/api/n-api.html, https://docs.libuv.org/en/v1.x/
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct napi_env__ *napi_env;
typedef struct napi_value__ *napi_value;
typedef struct napi_ref__ *napi_ref;
typedef struct napi_handle_scope__ *napi_handle_scope;
typedef struct napi_async_context__ *napi_async_context;
typedef struct napi_callback_info__ *napi_callback_info;
typedef struct napi_async_cleanup_hook_handle__ *napi_async_cleanup_hook_handle;
typedef int napi_status; // 0: napi_ok
typedef int napi_typedarray_type;
typedef struct uv_loop_s uv_loop_t;

typedef napi_value (*napi_callback)(napi_env, napi_callback_info);
typedef void (*napi_finalize)(napi_env, void *data, void *hint);
typedef void (*napi_async_cleanup_hook)(napi_async_cleanup_hook_handle, void *data);

#define NAPI_AUTO_LENGTH SIZE_MAX

napi_status napi_get_undefined(napi_env, napi_value *);
napi_status napi_create_object(napi_env, napi_value *);
napi_status napi_create_int32(napi_env, int32_t, napi_value *);
napi_status napi_create_string_utf8(napi_env, const char *, size_t, napi_value *);
napi_status napi_create_external(napi_env, void *data, napi_finalize, void *hint, napi_value *);
napi_status napi_create_function(napi_env, const char *name, size_t, napi_callback, void *data, napi_value *);
napi_status napi_get_value_int32(napi_env, napi_value, int32_t *);
napi_status napi_get_value_string_utf8(napi_env, napi_value, char *, size_t, size_t *);
napi_status napi_get_value_external(napi_env, napi_value, void **);
napi_status napi_get_typedarray_info(napi_env, napi_value, napi_typedarray_type *, size_t *length, void **data,
                                     napi_value *buffer, size_t *offset);
napi_status napi_set_named_property(napi_env, napi_value object, const char *name, napi_value);
napi_status napi_get_cb_info(napi_env, napi_callback_info, size_t *argc, napi_value *argv, napi_value *self, void **data);
napi_status napi_create_reference(napi_env, napi_value, uint32_t count, napi_ref *);
napi_status napi_delete_reference(napi_env, napi_ref);
napi_status napi_get_reference_value(napi_env, napi_ref, napi_value *);
napi_status napi_open_handle_scope(napi_env, napi_handle_scope *);
napi_status napi_close_handle_scope(napi_env, napi_handle_scope);
napi_status napi_throw_error(napi_env, const char *code, const char *message);
napi_status napi_is_exception_pending(napi_env, bool *);
napi_status napi_get_and_clear_last_exception(napi_env, napi_value *);
napi_status napi_fatal_exception(napi_env, napi_value);
napi_status napi_make_callback(napi_env, napi_async_context, napi_value self, napi_value function, size_t argc,
                               const napi_value *argv, napi_value *result);
napi_status napi_set_instance_data(napi_env, void *data, napi_finalize, void *hint);
napi_status napi_get_instance_data(napi_env, void **data);
napi_status napi_add_async_cleanup_hook(napi_env, napi_async_cleanup_hook, void *data, napi_async_cleanup_hook_handle *);
napi_status napi_remove_async_cleanup_hook(napi_async_cleanup_hook_handle);
napi_status napi_get_uv_event_loop(napi_env, uv_loop_t **);

typedef struct uv_handle_s uv_handle_t; // uv_poll_t is one; its size is asked for, so its fields need not be known
typedef void (*uv_poll_cb)(uv_handle_t *, int status, int events);
typedef void (*uv_close_cb)(uv_handle_t *);

enum { UV_POLL = 8 }; // uv_handle_type
enum { UV_READABLE = 1 };

size_t uv_handle_size(int type);
void *uv_handle_get_data(const uv_handle_t *);
void uv_handle_set_data(uv_handle_t *, void *);
int uv_poll_init(uv_loop_t *, uv_handle_t *, int fd);
int uv_poll_start(uv_handle_t *, int events, uv_poll_cb);
int uv_poll_stop(uv_handle_t *);
void uv_close(uv_handle_t *, uv_close_cb);
