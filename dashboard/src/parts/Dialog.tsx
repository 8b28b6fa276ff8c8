import { Modal } from "@mantine/core";
import type { ReactNode } from "react";

/** What is asked in front of the page. Its header is none of the document's, as Mantine's own Modal would have it. */
export function Dialog({
  title,
  isOpen,
  close,
  children,
}: {
  title: string;
  isOpen: boolean;
  close: () => void;
  children: ReactNode;
}) {
  return (
    <Modal.Root opened={isOpen} onClose={close} size="lg">
      <Modal.Overlay />
      <Modal.Content>
        <Modal.Header role="none">
          <Modal.Title>{title}</Modal.Title>
          <Modal.CloseButton aria-label="Close" />
        </Modal.Header>
        <Modal.Body>{children}</Modal.Body>
      </Modal.Content>
    </Modal.Root>
  );
}
