/**
 * Every page of a list, in order, until one has none behind it.
 *
 * @param ask  gives the page of a token; the first is asked for without one
 */
export async function* pagesOf<Page extends { readonly nextPageToken: string }>(
  ask: (pageToken: string) => Promise<Page>,
): AsyncGenerator<Page, void, undefined> {
  let pageToken = "";
  do {
    const page = await ask(pageToken);
    yield page;
    pageToken = page.nextPageToken;
  } while (pageToken !== "");
}
