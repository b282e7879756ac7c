/* Predict with an exported network through MXNet's C predict API, from C or C++.
 *
 * MXNet's Python wheel has the header and the library that are needed:
 *
 *   M=$(python -c "import mxnet, os; print(os.path.dirname(mxnet.__file__))")
 *   gcc -O2 -I"$M/include" predict.c -o predict -L"$M" -lmxnet -Wl,-rpath,"$M"
 *   ./predict BUNDLE IMAGE.ppm
 *
 * BUNDLE is what `dmr export RUN --out BUNDLE` wrote (without --preprocess). The image is a
 * binary PPM of just the input's size, such as ImageMagick makes of others:
 *
 *   convert photo.jpg -resize 32x32^ -gravity center -extent 32x32 IMAGE.ppm
 *
 * Printed are the most probable class and all logits. The hashes of the bundle are not checked
 * here; `dmr predict` does that. */

#include <stdbool.h> /* c_predict_api.h needs this one and the next */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <mxnet/c_predict_api.h>

static void fail(const char *what, const char *why) {
  fprintf(stderr, "error: %s: %.*s\n", what, (int)strcspn(why, "\n"), why); /* no stack trace */
  exit(2);
}

/* A whole file, with a zero after it. */
static char *read_file(const char *folder, const char *name, size_t *size) {
  char path[4096];
  snprintf(path, sizeof path, "%s/%s", folder, name);
  FILE *file = fopen(path, "rb");
  if (!file) fail(path, "cannot be opened");
  fseek(file, 0, SEEK_END);
  *size = (size_t)ftell(file);
  rewind(file);
  char *content = (char *)malloc(*size + 1);
  if (!content || fread(content, 1, *size, file) != *size) fail(path, "cannot be read");
  content[*size] = 0;
  fclose(file);
  return content;
}

/* What follows `"key": [` in bundle.json, from a place on. */
static const char *list(const char *json, const char *key) {
  char wanted[64];
  snprintf(wanted, sizeof wanted, "\"%s\": [", key);
  const char *found = strstr(json, wanted);
  if (!found) fail(key, "is not in bundle.json, or null there");
  return found + strlen(wanted);
}

static void three_numbers(const char *json, const char *key, double *numbers) {
  const char *place = list(json, key);
  for (int i = 0; i < 3; i++) {
    char *end;
    numbers[i] = strtod(place, &end);
    place = end + strspn(end, ", \n");
  }
}

/* Prints the label of a class, as JSON writes it. */
static void print_label(const char *json, unsigned wanted) {
  const char *place = strchr(list(json, "classes"), '"');
  for (unsigned i = 0;; i++) {
    const char *end = place + 1;
    while (*end != '"') end += *end == '\\' ? 2 : 1;
    if (i == wanted) {
      printf("%.*s\n", (int)(end - place - 1), place + 1);
      return;
    }
    place = strchr(end + 1, '"');
  }
}

/* MXPredCreate ignores surplus parameters, and takes missing ones to be zero. */
static void check_parameters(const char *folder, const char *symbol, const char *params, int size) {
  NDListHandle list;
  mx_uint count, wanted = 0, ndim;
  if (MXNDListCreate(params, size, &list, &count)) fail(folder, MXGetLastError());
  const char *at = symbol;
  for (; (at = strstr(at, "\"op\": \"null\"")); at++) wanted++;
  if (count + 1 != wanted) fail(folder, "the parameters are another network's"); /* 1: data */
  for (mx_uint i = 0; i < count; i++) {
    const char *key;
    const mx_float *values;
    const mx_uint *shape;
    if (MXNDListGet(list, i, &key, &values, &shape, &ndim)) fail(folder, MXGetLastError());
    char name[256];
    const char *colon = strchr(key, ':'); /* arg:NAME or aux:NAME */
    snprintf(name, sizeof name, "\"name\": \"%s\"", colon ? colon + 1 : key);
    if (!strstr(symbol, name)) fail(folder, "the parameters are another network's");
  }
  MXNDListFree(list);
}

int main(int argc, char **argv) {
  if (argc != 3) fail("usage", "predict BUNDLE IMAGE.ppm");

  size_t size, params_size;
  char *json = read_file(argv[1], "bundle.json", &size);
  char *symbol = read_file(argv[1], "model-symbol.json", &size);
  char *params = read_file(argv[1], "model-0000.params", &params_size);
  check_parameters(argv[1], symbol, params, (int)params_size);
  const char *input = strstr(json, "\"input\": {");
  if (!input) fail(argv[1], "bundle.json has no input");
  if (!strstr(input, "\"values\": \"normalised\"")) fail(argv[1], "export it without --preprocess");
  double shape[3], mean[3], std[3];
  three_numbers(input, "shape", shape); /* 3, height, width */
  three_numbers(input, "mean", mean);
  three_numbers(input, "std", std);
  int height = (int)shape[1], width = (int)shape[2];

  /* The image: red, green and blue of each pixel one after the other, 0 to 255. */
  FILE *file = fopen(argv[2], "rb");
  if (!file) fail(argv[2], "cannot be opened");
  int has_width, has_height, most;
  if (fscanf(file, "P6 %d %d %d", &has_width, &has_height, &most) != 3 || most != 255)
    fail(argv[2], "is not a binary PPM (P6) of 8 bits without comments");
  if (has_width != width || has_height != height) fail(argv[2], "is not of the input's size");
  fgetc(file); /* the one white space before the pixels */
  size_t count = 3 * (size_t)height * (size_t)width;
  unsigned char *pixels = (unsigned char *)malloc(count);
  if (!pixels || fread(pixels, 1, count, file) != count) fail(argv[2], "is cut off");
  fclose(file);

  /* The network's input: all of red, all of green, all of blue, normalised. */
  float *data = (float *)malloc(count * sizeof(float));
  for (size_t i = 0; i < count; i++) {
    size_t channel = i % 3;
    data[channel * (count / 3) + i / 3] = (float)((pixels[i] - mean[channel]) / std[channel]);
  }

  PredictorHandle network;
  const char *names[] = {"data"};
  const mx_uint begins[] = {0, 4};
  const mx_uint dimensions[] = {1, 3, (mx_uint)height, (mx_uint)width};
  const int cpu = 1, device = 0; /* a GPU: 2, and its number */
  if (MXPredCreate(symbol, params, (int)params_size, cpu, device, 1, names, begins, dimensions,
                   &network) ||
      MXPredSetInput(network, "data", data, (mx_uint)count) || MXPredForward(network))
    fail(argv[1], MXGetLastError());
  mx_uint *output_shape, dimension;
  if (MXPredGetOutputShape(network, 0, &output_shape, &dimension)) fail(argv[1], MXGetLastError());
  mx_uint classes = output_shape[1];
  float *logits = (float *)malloc(classes * sizeof(float));
  if (MXPredGetOutput(network, 0, logits, classes)) fail(argv[1], MXGetLastError());

  mx_uint best = 0;
  for (mx_uint i = 1; i < classes; i++)
    if (logits[i] > logits[best]) best = i;
  print_label(json, best);
  for (mx_uint i = 0; i < classes; i++) printf("%.7g\n", logits[i]);
  MXPredFree(network);
  free(logits), free(data), free(pixels), free(params), free(symbol), free(json);
  return 0;
}
