import { ReidError } from "./errors.js";

/** A crop without pixels, or with zero bytes. */
export class CropEmptyError extends ReidError<{ receivedBytes: number }> {
  readonly code = "CROP_EMPTY";
  readonly kind = "invalid-argument";

  constructor() {
    super("crop has no pixels: send a JPEG, PNG or WebP file or raw pixels", {
      receivedBytes: 0,
    });
  }
}

/** A file that is no JPEG, PNG or WebP, or one that is broken or cut short. */
export class CropUndecodableError extends ReidError<{
  format: string;
  receivedBytes: number;
}> {
  readonly code = "CROP_UNDECODABLE";
  readonly kind = "invalid-argument";

  /**
   * @param format  as its first bytes say; `unknown` where they are of no format we read
   * @param reason  what the decoder found, one line without pixel data
   */
  constructor(
    format: string,
    receivedBytes: number,
    reason: string,
    options?: ErrorOptions,
  ) {
    super(
      `crop of ${receivedBytes} bytes (${format}) cannot be decoded, ${reason}: ` +
        "send a whole JPEG, PNG or WebP file",
      { format, receivedBytes },
      options,
    );
  }
}

/** Facts of {@link CropTooLargeError}: without the sides where the file was refused before its header was read. */
export type CropTooLargeFacts =
  | { readonly receivedBytes: number }
  | {
      readonly receivedBytes: number;
      readonly widthPx: number;
      readonly heightPx: number;
    };

/** A file, a side or a number of pixels over the limit, as the header says: nothing was decoded. */
export class CropTooLargeError extends ReidError<CropTooLargeFacts> {
  readonly code = "CROP_TOO_LARGE";
  readonly kind = "invalid-argument";

  /** @param limit  the limit that was passed, in words with its value */
  constructor(facts: CropTooLargeFacts, limit: string) {
    const size =
      "widthPx" in facts
        ? `${facts.widthPx} x ${facts.heightPx} px`
        : `${facts.receivedBytes} bytes`;
    super(`crop of ${size} is over ${limit}: scale it down first`, facts);
  }
}

/** A crop with a side so short that nothing can be seen on it. */
export class CropTooSmallError extends ReidError<{
  widthPx: number;
  heightPx: number;
  minimumPx: number;
}> {
  readonly code = "CROP_TOO_SMALL";
  readonly kind = "invalid-argument";

  constructor(widthPx: number, heightPx: number, minimumPx: number) {
    super(
      `crop of ${widthPx} x ${heightPx} px has a side under ${minimumPx} px: send a larger detection`,
      { widthPx, heightPx, minimumPx },
    );
  }
}

/** Raw pixels whose stride or length is not what width and height ask for. */
export class PixelsSizeError extends ReidError<{
  strideBytes: number;
  expectedBytes: number;
  receivedBytes: number;
}> {
  readonly code = "PIXELS_SIZE";
  readonly kind = "invalid-argument";

  constructor(
    strideBytes: number,
    expectedBytes: number,
    receivedBytes: number,
  ) {
    super(
      `raw pixels are ${receivedBytes} bytes with ${strideBytes} bytes a row, expected ${expectedBytes}: ` +
        "stride is at least 3 x width, data stride x (height - 1) + 3 x width to stride x height bytes",
      { strideBytes, expectedBytes, receivedBytes },
    );
  }
}
